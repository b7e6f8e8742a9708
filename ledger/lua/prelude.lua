-- The head of every script. Before it stand, generated: VERSION (version.py), NAMES (keys.py) and MOVES, ENDS (states.py).
-- KEYS[1] is any key of the ledger (Redis Cluster routes by it); ARGV[1] is the base of all keys, '{launchq}:'.
-- Times are Redis' own, in whole milliseconds.

local BASE = ARGV[1]
local EVENTS_KEPT = 100000
local WAKE_MS = 2000
local WATCH_MS = 300
local EXPIRED_AT_ONCE = 1000

local function key(name, id)
  return BASE .. NAMES[name] .. (id or '')
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whole numbers as text: Lua would write large ones as 1.7e+12.
local function whole(number)
  return string.format('%.0f', number)
end

-- The version of the newest launchq that has used this ledger, as long as that is newer than this script's; or false.
local function outdated()
  local newest = redis.call('HGET', key('account'), 'version')
  return newest and tonumber(newest) > VERSION and newest
end

-- From now on, workers of an older launchq leave this ledger alone.
local function mark_version()
  if not outdated() then
    redis.call('HSET', key('account'), 'version', whole(VERSION))
  end
end

local function count(state, batch, by)
  redis.call('HINCRBY', key('counts'), state, by)
  if batch and batch ~= '' then
    redis.call('HINCRBY', key('batch', batch), state, by)
  end
end

local function tell(id, state, reason, attempt, batch, instance)
  local event = {'job', id, 'state', state, 'attempt', attempt or '0'}
  if reason and reason ~= '' then
    event[#event + 1] = 'reason'
    event[#event + 1] = reason
  end
  if batch and batch ~= '' then
    event[#event + 1] = 'batchId'
    event[#event + 1] = batch
  end
  if instance and instance ~= '' then
    event[#event + 1] = 'instanceId'
    event[#event + 1] = instance
  end
  redis.call('XADD', key('events'), 'MAXLEN', '~', EVENTS_KEPT, '*', unpack(event))
end

-- Moves one job along the table, or refuses. `set` holds the hash fields that change with it ('' empties one);
-- `look` is when to look at the job next (ms), needed for every state that is not an end.
-- Returns the new state, or false where the table has no such move.
local function move(id, event, now, look, set)
  local job = key('job', id)
  local old = redis.call('HMGET', job, 'state', 'batchId', 'attempt', 'reason', 'instanceId')
  local new = old[1] and MOVES[old[1]] and MOVES[old[1]][event]
  if not new then
    return false
  end
  local fields = {'state', new, 'updatedAt', whole(now)}
  for name, value in pairs(set) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if ENDS[new] then
    redis.call('ZREM', key('due'), id)
    redis.call('ZADD', key('ended'), now, id)
    if old[2] then
      redis.call('HSET', key('batch', old[2]), 'endedAt', whole(now))
    end
  else
    fields[#fields + 1] = 'dueAt'
    fields[#fields + 1] = whole(look)
    redis.call('ZADD', key('due'), look, id)
    if ENDS[old[1]] then
      redis.call('ZREM', key('ended'), id)
    end
  end
  redis.call('HSET', job, unpack(fields))
  if new ~= old[1] then
    count(old[1], old[2], -1)
    count(new, old[2], 1)
  end
  tell(id, new, set.reason or old[4], set.attempt or old[3], old[2], set.instanceId or old[5])
  return new
end

-- A lease that ran out: its worker died or was paused, and nobody knows what its call did.
local function expire(id, now)
  if outdated() then
    return false  -- what has become of it, the newer one knows
  end
  return move(id, 'expire', now, now, {
    category = 'unknown', reason = '',
    message = 'the worker was lost during the create call; an instance may exist all the same: look in the console',
  })
end

-- Looks for leases that ran out among the latest due: where many jobs wait for an account to open, those that just ran
-- out stand there.
local function expire_lost(now)
  for _, id in ipairs(redis.call('ZREVRANGEBYSCORE', key('due'), now, '-inf', 'LIMIT', 0, EXPIRED_AT_ONCE)) do
    if redis.call('HGET', key('job', id), 'state') == 'submitting' then
      expire(id, now)
    end
  end
end

-- Whether a wake-up should be sent now: not while a shift with room looks for itself; otherwise once, then not again
-- for WAKE_MS or until a shift has begun.
local function wants_wake()
  if redis.call('EXISTS', key('watch')) == 1 then
    return 0
  end
  return redis.call('SET', key('wake'), '1', 'NX', 'PX', WAKE_MS) and 1 or 0
end

-- Whether the token that all workers share is there and has not ended.
local function has_token(now)
  local token = redis.call('HMGET', key('token'), 'value', 'expiresAt')
  return token[1] and (not token[2] or tonumber(token[2]) > now)
end

-- Notes one more use of credentials that nothing has proved good since: the next may come 1, 2, 4, ... seconds later, at
-- most `longest` ms. A use that proves good sets the row back (settle.lua).
local function put_off(credentials, longest, now)
  local uses = redis.call('HINCRBY', key('logins'), credentials, 1)
  local wait = math.min(longest, 1000 * 2 ^ math.min(uses - 1, 30))
  redis.call('HSET', key('logins'), credentials .. ':next', whole(now + wait))
end

-- When these credentials may be used next (ms); 0 is now.
local function next_use(credentials)
  return tonumber(redis.call('HGET', key('logins'), credentials .. ':next') or '0')
end

-- Whether claims are open at this moment, and if not, until when they are closed ('' is until somebody acts).
-- An account blocked for its credentials is not closed by that: what is missing then is a token, which claims look for,
-- and workers with other credentials may have one made.
local function account_state(now)
  local account = redis.call('HMGET', key('account'), 'state', 'until', 'reason')
  local state = account[1] or 'open'
  local till = account[2] or ''
  if state == 'open' or account[3] == 'credentials' or (till ~= '' and tonumber(till) <= now) then
    return true, state, till, account[3]
  end
  return false, state, till, account[3]
end

local function open_account()
  redis.call('HSET', key('account'), 'state', 'open')
  redis.call('HDEL', key('account'), 'until', 'reason', 'message', 'since')
end

local function close_account(state, reason, message, till, now)
  if redis.call('HGET', key('account'), 'state') ~= state then
    redis.call('HSET', key('account'), 'since', whole(now))
  end
  redis.call('HSET', key('account'), 'state', state, 'reason', reason, 'message', message, 'until', till)
end
