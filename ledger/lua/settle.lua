-- Writes down how attempts ended. Each report names its attempt and is refused unless that attempt is the job's last.
-- Safe to repeat: a report that was taken has moved its job on, so its repetition is refused.
-- ARGV: base, version of a token that was refused ('' is none), 'token' or the fingerprint of the API key that was taken,
--       pause of the account (ms, '0' is none), text of the pause, text of the block ('' is none), probe (ms), verify delays,
--       then 9 for each report: id, attempt, event, reason, category, message, instance id, delay (ms),
--       what it counts for ('' nothing, 'a' an attempt, 'at' an attempt and a try; an unknown end always counts for both)
-- Returns for each report the job's new state, 'stale', or 'surplus': an instance was created that no job waits for (any more).

local FIELDS = 9
local LOWEST_RATE, RECOVERY = 1 / 64, 0.05
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
  -- What stops the account besides a person's pause is noted beneath it.
  local state, till = unpack(redis.call('HMGET', account, 'state', 'until'))
  if state ~= 'blocked' then
    local longest = math.max(now + pause, tonumber(till or '') or 0)
    if state ~= 'paused' then
      local factor = tonumber(redis.call('HGET', key('rate'), 'factor') or '1')
      redis.call('HSET', key('rate'), 'factor', tostring(math.max(factor / 2, LOWEST_RATE)))
    end
    close_account('paused', 'throttled', ARGV[5], whole(longest), now)
  end
end
if ARGV[6] ~= '' then
  close_account('blocked', 'balance', ARGV[6], whole(now + ARGV[7]), now)
end

local function surplus(id, attempt, instance)
  local job = redis.call('HMGET', key('job', id), 'state', 'instanceId')
  local owner = redis.call('HGET', key('owners'), instance)
  if owner == id or job[2] == instance then
    return 'stale'
  end
  if job[1] and not owner then
    own(instance, id, now)
    note(id, now, {event = 'surplus', state = job[1], attempt = attempt, instanceId = instance,
      message = 'this attempt created an instance after it had been given up: it is there beside the job\'s own'})
  end
  return 'surplus'
end

local states = {}
for at = 9, #ARGV, FIELDS do
  local id, attempt, event, instance = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 6]
  local job = read_job(id, 'attempt', 'attempts', 'tries', 'cancelRequested', 'state', 'worker', 'doubtful', 'lane', 'epoch',
    'waits', 'choices', 'chosen', 'arrived')
  local new = false
  local set = {reason = ARGV[at + 3], category = ARGV[at + 4], message = ARGV[at + 5]}
  local wait = tonumber(ARGV[at + 7])
  local sold_out = event == 'defer' and set.reason == 'capacity' and job[10]
  -- A job that waits for capacity waits in its lane, which says when it is asked again.
  local look = now + (sold_out and 0 or wait)
  local next_choice = event == 'fail' and set.category == 'capacity' and job[11] and cjson.decode(job[11])[tonumber(job[12]) + 1]
  if next_choice then
    -- A job that does not wait for capacity tries its fallbacks one after the other.
    event, set.reason, set.chosen = 'defer', 'capacity', whole(tonumber(job[12]) + 1)
    look = math.max(now, tonumber(job[13] or '0') + next_choice.after)
  end
  local owner = instance ~= '' and redis.call('HGET', key('owners'), instance)
  if owner and owner ~= id then
    -- Another job of the same name has adopted it: this one's own may still turn up.
    event, instance = 'doubt', ''
    set.category, set.message = 'unknown', 'the API answered with ' .. ARGV[at + 6] .. ', which is the instance of job ' .. owner
  end
  if job[1] == attempt then
    if job[5] == 'submitting' and event == 'doubt' then
      local doubts
      doubts, look = doubt(id, now, ARGV[8])
      for name, value in pairs(doubts) do
        set[name] = value
      end
    elseif job[5] == 'submitting' then
      local counts = ARGV[at + 8]
      if counts ~= '' then
        set.attempts = whole((tonumber(job[2]) or 0) + 1)
      end
      if counts == 'at' then
        set.tries = whole((tonumber(job[3]) or 0) + 1)
      end
    end
    if instance ~= '' then
      set.instanceId = instance
    end
    new = move(id, event, now, look, set, job[6])
    if new and IN_DOUBT[job[5]] and job[7] == attempt then
      -- It is certain after all what the first attempt in doubt did: a later one is compared with a listing of its own.
      redis.call('HDEL', key('job', id), 'doubtful')
    end
  end
  if new and sold_out then
    close_lane(job[8] or '', job[9], wait, set.message, now)
  end
  if new == 'succeeded' then
    if job[10] then
      widen_lane(job[8] or '', job[9], now)
    end
    own(instance, id, now)
    settle_doubt(id)
    if redis.call('HGET', account, 'reason') == 'balance' then
      open_account()
    end
  elseif new == 'retrying' and job[4] then
    new = move(id, 'cancel', now, now, {reason = ''})
  elseif new == 'retrying' then
    new = give_up(id, now) or new
  elseif not new and instance ~= '' then
    new = surplus(id, attempt, instance)
  end
  states[#states + 1] = new or 'stale'
end
local factor = redis.call('HGET', key('rate'), 'factor')
if factor then
  local launched = 0
  for _, state in ipairs(states) do
    launched = launched + (state == 'succeeded' and 1 or 0)
  end
  local grown = tonumber(factor) + RECOVERY * launched
  if grown >= 1 then
    redis.call('HDEL', key('rate'), 'factor')
  elseif launched > 0 then
    redis.call('HSET', key('rate'), 'factor', tostring(grown))
  end
end
return states
