-- One beat of a worker's pulse: it is alive; leases that ran out; is a wake-up wanted.
-- ARGV: base, worker, fingerprint of its credentials ('' is none), '1' if they are an API key
-- Returns {wake, ms until there may be something to do, or ''}; where a newer launchq uses the ledger, its version behind
-- them, and nothing is done.

local now = now_ms()
redis.call('ZADD', key('workers'), now, ARGV[2])
if outdated() then
  return {0, '', outdated()}
end

expire_lost(now)

local first = redis.call('ZRANGE', key('due'), 0, 0, 'WITHSCORES')[2]
if not first then
  return {0, ''}
end
-- Without a token, only a worker that may log in has something to do; the first one without one says so in public.
local credentials, has_api_key = ARGV[3], ARGV[4] == '1'
if has_api_key then
  if next_use(credentials) > now then
    return {0, whole(next_use(credentials) - now)}
  end
elseif not has_token(now) and redis.call('HGET', key('account'), 'state') == 'blocked' then
  if credentials == '' then
    return {0, ''}
  elseif next_use(credentials) > now then
    return {0, whole(next_use(credentials) - now)}
  end
end
local open, _, till = account_state(now)
if not open then
  return {0, till ~= '' and whole(till - now) or ''}
end
if tonumber(first) > now then
  return {0, whole(first - now)}
end
return {wants_wake(), '0'}
