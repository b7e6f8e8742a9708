-- Takes up to `limit` due jobs for one attempt each. Safe to repeat: the same claim id gets the same jobs again.
-- A job that is due while it is being submitted has lost its worker: it goes to where the table says, never to a call.
-- ARGV: base, claim id, limit, lease (ms), worker, fingerprint of an API key or '' (then a token is needed),
--       first ('1' for a shift's first claim), probe (ms between single jobs while the account is blocked),
--       watching ('1' where the shift comes back in a moment, whatever it gets), longest wait (ms) for a refused API key
-- Returns {why, wake, wait, {token, version, left, life}, {id, attempt, request, tries, max attempts, spot} ...}
--   why: '' or why nothing could be claimed: 'paused', 'blocked', 'token', 'version' (a newer launchq uses the ledger)
--   wait: ms until there may be something to claim; '' is until somebody acts
--   left, life: ms for which the token is good, now and when it was stored; '' where that is unknown

local claim_id, limit, lease, worker, api_key = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]
local now = now_ms()

if ARGV[7] == '1' then
  redis.call('DEL', key('wake'))
end

local function handed_out(id)
  local job = redis.call('HMGET', key('job', id), 'attempt', 'request', 'tries', 'maxAttempts', 'spot')
  return {id, job[1], job[2], job[3], job[4] or '', job[5] or ''}
end

-- While a shift with room keeps coming back, new jobs need no wake-up call.
if ARGV[9] == '1' and not outdated() then
  redis.call('SET', key('watch'), '1', 'PX', WATCH_MS)
else
  redis.call('DEL', key('watch'))
end

local token = {'', '', '', ''}
if api_key == '' then
  local held = redis.call('HMGET', key('token'), 'value', 'version', 'expiresAt', 'storedAt')
  if held[1] and held[3] then
    token = {held[1], held[2], whole(held[3] - now), whole(held[3] - held[4])}
  elseif held[1] then
    token = {held[1], held[2], '', ''}
  end
end

local before = redis.call('LRANGE', key('claim', claim_id), 0, -1)
if #before > 0 then
  local jobs = {}
  for _, pair in ipairs(before) do
    local attempt, id = string.match(pair, '^(%d+) (.*)$')
    local job = handed_out(id)
    if job[2] == attempt and redis.call('HGET', key('job', id), 'state') == 'submitting' then
      jobs[#jobs + 1] = job
    end
  end
  return {'', '0', '0', token, jobs}
end

if outdated() then
  return {'version', '0', '', token, {}}
end
if api_key == '' and not has_token(now) then
  return {'token', '0', '', token, {}}
elseif api_key ~= '' and next_use(api_key) > now then
  return {'blocked', '0', whole(next_use(api_key) - now), token, {}}
end
local open, state, till, reason = account_state(now)
if not open then
  return {state, '0', till ~= '' and whole(till - now) or '', token, {}}
end
local probing = state == 'blocked' and reason == 'balance'
if state == 'paused' then
  open_account()
end
local refused_key = api_key ~= '' and next_use(api_key) > 0
if probing or refused_key then
  -- One job finds out whether the account can pay, or the key is taken, again; the others wait for what it brings back.
  limit = math.min(limit, 1)
end

local jobs = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('due'), '-inf', now, 'LIMIT', 0, limit)) do
  local job = redis.call('HMGET', key('job', id), 'state', 'attempt')
  if job[1] == 'submitting' then
    expire(id, now)
  else
    local attempt = whole((tonumber(job[2]) or 0) + 1)
    if move(id, 'claim', now, now + lease, {attempt = attempt, worker = worker, reason = ''}) then
      jobs[#jobs + 1] = handed_out(id)
      redis.call('RPUSH', key('claim', claim_id), attempt .. ' ' .. id)
    else
      redis.call('ZREM', key('due'), id)
    end
  end
end
if #jobs > 0 then
  redis.call('PEXPIRE', key('claim', claim_id), lease)
  if probing then
    redis.call('HSET', key('account'), 'until', whole(now + ARGV[8]))
  end
  if refused_key then
    put_off(api_key, tonumber(ARGV[10]), now)
  end
end

local wake, wait = 0, ''
local first = redis.call('ZRANGE', key('due'), 0, 0, 'WITHSCORES')
if first[2] then
  wait = whole(math.max(0, first[2] - now))
  if #jobs >= limit and wait == '0' then
    redis.call('DEL', key('watch'))
    wake = wants_wake()
  end
end
return {'', tostring(wake), wait, token, jobs}
