-- One beat of a worker's pulse: it is alive; leases that ran out; is a wake-up wanted.
-- ARGV: base, worker, fingerprint of its credentials ('' is none), '1' if they are an API key, verify delays
-- Returns {wake, ms until there may be something to do, or ''}; where a newer launchq uses the ledger, its version behind
-- them, and nothing is done.

local now = now_ms()
redis.call('ZADD', key('workers'), now, ARGV[2])
if outdated() then
  return {0, '', outdated()}
end

expire_lost(now, ARGV[5])

for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('deadlines'), '-inf', now, 'LIMIT', 0, EXPIRED_AT_ONCE)) do
  give_up(id, now)
end

for _, batch in ipairs(redis.call('SMEMBERS', key('holding'))) do
  -- A place that was given to a job which then was cancelled, or waits for capacity, is given again.
  release(batch, now)
end

local due, lookup = first_claim(), first_of('leases')
if redis.call('EXISTS', key('lookup')) == 1 then
  lookup = nil
end
if not due and not lookup then
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
local open, state, till, reason = account_state(now)
if not open then
  due = due and till ~= '' and math.max(due, tonumber(till)) or nil
  if state == 'paused' and reason ~= 'person' and lookup then
    lookup = math.max(lookup, tonumber(till) or now + 1000)
  end
end
local first = due and lookup and math.min(due, lookup) or due or lookup
if not first then
  return {0, ''}
elseif first > now then
  return {0, whole(first - now)}
end
return {wants_wake(), '0'}
