-- Writes down how attempts ended. Each report names its attempt and is refused unless that attempt is the job's last.
-- Safe to repeat: a report that was taken has moved its job on, so its repetition is refused.
-- ARGV: base, version of a token that was refused ('' is none), 'token' or the fingerprint of the API key that was taken,
--       pause of the account (ms, '0' is none), text of the pause, text of the block ('' is none), probe (ms),
--       then 9 for each report: id, attempt, event, reason, category, message, instance id, delay (ms),
--       what it counts for ('' nothing, 'a' an attempt, 'at' an attempt and a try)
-- Returns for each report the job's new state, or 'stale'.

local FIELDS = 9
local now = now_ms()
local account = key('account')

if ARGV[2] ~= '' and redis.call('HGET', key('token'), 'version') == ARGV[2] then
  redis.call('HDEL', key('token'), 'value', 'expiresAt')
end
if ARGV[3] ~= '' then
  -- The credentials are good (those that made the token, or the key): their next use need not wait.
  local good = ARGV[3] == 'token' and redis.call('HGET', key('token'), 'credentials') or ARGV[3]
  redis.call('HDEL', key('logins'), good, good .. ':next')
  if redis.call('HGET', account, 'reason') == 'credentials' then
    open_account()
  end
end

local pause = tonumber(ARGV[4])
if pause > 0 then
  local _, state, till = account_state(now)
  if state ~= 'blocked' then
    local longest = math.max(now + pause, tonumber(till) or 0)
    close_account('paused', 'throttled', ARGV[5], whole(longest), now)
  end
end
if ARGV[6] ~= '' then
  close_account('blocked', 'balance', ARGV[6], whole(now + ARGV[7]), now)
end

local states = {}
for at = 8, #ARGV, FIELDS do
  local id, attempt, event = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local job = redis.call('HMGET', key('job', id), 'attempt', 'attempts', 'tries', 'cancelRequested')
  local new = false
  if job[1] == attempt then
    local counts = ARGV[at + 8]
    local set = {reason = ARGV[at + 3], category = ARGV[at + 4], message = ARGV[at + 5]}
    if counts ~= '' then
      set.attempts = whole((tonumber(job[2]) or 0) + 1)
    end
    if counts == 'at' then
      set.tries = whole((tonumber(job[3]) or 0) + 1)
    end
    if ARGV[at + 6] ~= '' then
      set.instanceId = ARGV[at + 6]
    end
    new = move(id, event, now, now + ARGV[at + 7], set)
  end
  if new == 'succeeded' then
    -- A poller asks for the message only to learn of an error.
    redis.call('HDEL', key('job', id), 'message', 'category', 'reason')
    if redis.call('HGET', account, 'reason') == 'balance' then
      open_account()
    end
  elseif new == 'retrying' and job[4] then
    new = move(id, 'cancel', now, now, {reason = ''})
  end
  states[#states + 1] = new or 'stale'
end
return states
