-- The head of every script. Before it stand, generated: VERSION (version.py), NAMES (keys.py), MOVES, ENDS, WATCHED and
-- IN_DOUBT (states.py).
-- KEYS[1] is any key of the ledger (Redis Cluster routes by it); ARGV[1] is the base of all keys, '{launchq}:'.
-- Times are Redis' own, in whole milliseconds.

local BASE = ARGV[1]
local EVENTS_KEPT = 100000
local WAKE_MS = 2000
local WATCH_MS = 300
local EXPIRED_AT_ONCE = 1000
local LINED_UP_AT_ONCE = 1000
local OPENINGS_AT_ONCE = 4
local RELEASED_AT_ONCE = 1000
local HISTORY_KEPT = 50
local HISTORY_TEXT = 500

local notice_begin, notice_move, notice_block, notice_held, notice_opening  -- outbox.lua

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

-- Text cut to so many bytes, never inside a character.
local function cut(text, bytes)
  if #text <= bytes then
    return text
  end
  local last = bytes
  while last > 0 and string.byte(text, last + 1) >= 128 and string.byte(text, last + 1) < 192 do
    last = last - 1
  end
  return string.sub(text, 1, last) .. '...'
end

-- Adds a line to a job's history, which keeps the latest of them. Empty values are left out.
local function note(id, now, entry)
  local kept = {at = whole(now)}
  for name, value in pairs(entry) do
    if value and value ~= '' then
      kept[name] = cut(value, HISTORY_TEXT)
    end
  end
  redis.call('RPUSH', key('history', id), cjson.encode(kept))
  redis.call('LTRIM', key('history', id), -HISTORY_KEPT, -1)
end

-- How many jobs have sent this exact name and not learned what came of it: `flying` while calls may be under way, `doubted`
-- while nobody knows how they ended. Instances of the name may belong to any of them.
local function count_name(which, name, by)
  if redis.call('HINCRBY', key(which), name, by) <= 0 then
    redis.call('HDEL', key(which), name)
  end
end

local function count_names(name, old, new)
  if old == 'submitting' then count_name('flying', name, -1) end
  if IN_DOUBT[old] then count_name('doubted', name, -1) end
  if new == 'submitting' then count_name('flying', name, 1) end
  if IN_DOUBT[new] then count_name('doubted', name, 1) end
end

local move

-- Jobs that were entered alike share a template: what is not in a job's own hash stands there.
local SHARED = {request = true, digest = true, lane = true, waits = true, unique = true, maxAttempts = true, patience = true,
  choices = true, bodies = true}
local templates = {}

local function template(id)
  if not templates[id] then
    local fields, flat = {}, redis.call('HGETALL', key('template', id))
    for at = 1, #flat, 2 do
      fields[flat[at]] = flat[at + 1]
    end
    templates[id] = fields
  end
  return templates[id]
end

-- As HMGET of the job's hash, but with what its template says.
local function read_job(id, ...)
  local names = {...}
  local found = redis.call('HMGET', key('job', id), 'template', unpack(names))
  local shared = found[1] and template(found[1])
  local values = {}
  for at, name in ipairs(names) do
    values[at] = found[at + 1] or (shared and SHARED[name] and shared[name]) or false
  end
  return values
end

-- A lane is the jobs that compete for the same capacity. Its jobs that are due wait in its own queue (`ready`), and
-- `lanes` says when each lane may be served next: the lane that was served longest ago comes first.
-- Where its jobs wait for capacity, a lane has a hash (`lane`): `flying` calls, `width` of them at most (open: as many as
-- there is room for), `probeAt` while it is sold out. It begins narrow, each instance widens it by one, a sold-out answer
-- closes it until the next probe. `epoch` counts the closings: what a call brings back that was made before is no news.
local FIRST_WIDTH = 2
local OPEN_WIDTH = 64
local LANE_KEPT_MS = 3600000
local FULL_MS = 1000

local function serve_lane(lane, when)
  redis.call('ZADD', key('lanes'), 'XX', when, lane)
end

-- Where a job stands while it waits for a claim. Most stand in one lane. A job with fallbacks has `choices`, the first of them
-- its request as given, each with a lane and a time after which it may be used; `chosen` counts those that may be by now.
-- If it waits for capacity, it stands in the lanes of all of them, and the first lane to have room takes it out of the
-- others; `opens` is when the next choice may be used, if the latest lane is sold out then. If it does not wait, it stands in
-- the latest lane only: each that is sold out leads to the next.
local function standing(lane, waits, choices, chosen, arrived)
  if not choices then
    return {lanes = {lane}}
  end
  local known, count = cjson.decode(choices), tonumber(chosen)
  if not waits then
    return {lanes = {known[count].lane}}
  end
  local lanes, there = {}, {}
  for at = 1, count do
    if not there[known[at].lane] then
      lanes[#lanes + 1] = known[at].lane
      there[known[at].lane] = true
    end
  end
  local next_one = known[count + 1]
  return {lanes = lanes, last = known[count].lane, opens = next_one and math.floor(arrived) + next_one.after}
end

local function is_sold_out(lane)
  return redis.call('HEXISTS', key('lane', lane), 'probeAt') == 1
end

-- Puts a job that waits where it belongs: among those whose time has not come, or into the queue of each of its lanes.
local function put_in_line(id, place, arrived, look, now)
  if look > now then
    redis.call('ZADD', key('due'), look, id)
    return
  end
  for _, lane in ipairs(place.lanes) do
    redis.call('ZADD', key('ready', lane), arrived, id)
    if not redis.call('ZSCORE', key('lanes'), lane) then
      local probe_at = tonumber(redis.call('HGET', key('lane', lane), 'probeAt') or '0')
      redis.call('ZADD', key('lanes'), math.max(now, probe_at), lane)
    end
  end
  if place.opens then
    redis.call('ZADD', key('choices', place.last), place.opens, id)
    if is_sold_out(place.last) then
      redis.call('ZADD', key('openings'), 'LT', math.max(now, place.opens), place.last)
    end
  end
end

local function let_go(batch, id)
  if redis.call('ZREM', key('held', batch), id) == 1 and redis.call('EXISTS', key('held', batch)) == 0 then
    redis.call('SREM', key('holding'), batch)
  end
end

local function take_out_of_line(id, place, batch)
  if redis.call('ZREM', key('due'), id) == 1 then
    return
  end
  local stood = false
  for _, lane in ipairs(place.lanes) do
    if redis.call('ZREM', key('ready', lane), id) == 1 then
      stood = true
      if redis.call('EXISTS', key('ready', lane)) == 0 then
        redis.call('ZREM', key('lanes'), lane)
      end
    end
  end
  if batch and not stood then
    let_go(batch, id)
  end
  if place.opens then
    redis.call('ZREM', key('choices', place.last), id)
  end
end

-- Where this job stands, and its state; nil where there is no such job.
local function standing_of(id)
  local job = read_job(id, 'lane', 'waits', 'choices', 'chosen', 'arrived', 'dueAt', 'state')
  local arrived = tonumber(job[5] or job[6] or '0')
  return job[7] and standing(job[1] or '', job[2], job[3], job[4], arrived), job[7], arrived
end

-- Jobs whose time has come go into their lanes' queues.
local function line_up(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('due'), '-inf', now, 'LIMIT', 0, LINED_UP_AT_ONCE)) do
    local place, state, arrived = standing_of(id)
    if state == 'scheduled' then
      move(id, 'due', now, now, {})
    else
      redis.call('ZREM', key('due'), id)
      if state then
        put_in_line(id, place, arrived, now, now)
      end
    end
  end
end

-- How many calls of this batch may be made now; nil is any number. With `stopAfter`, no more calls are in flight than may
-- fail before the batch is held, and one more for each instance that it has got: one wrong field fails no thousand jobs.
local function batch_room(batch)
  local kept = redis.call('HMGET', key('batch', batch), 'held', 'maxParallel', 'stopAfter', 'submitting', 'verifying', 'failed',
    'succeeded', 'forgiven')
  if kept[1] then
    return 0
  end
  local flying, room = (tonumber(kept[4]) or 0) + (tonumber(kept[5]) or 0), nil
  if kept[2] then
    room = kept[2] - flying
  end
  if kept[3] then
    local may_fail = kept[3] - (tonumber(kept[6]) or 0) + (tonumber(kept[8]) or 0)
    room = math.min(room or math.huge, may_fail + (tonumber(kept[7]) or 0) - flying)
  end
  return room and math.max(0, room)
end

-- Puts a job aside that is due, but whose batch may have no more calls in flight.
local function set_aside(id, batch)
  local place, _, arrived = standing_of(id)
  take_out_of_line(id, place)
  redis.call('ZADD', key('held', batch), arrived, id)
  redis.call('SADD', key('holding'), batch)
end

-- Puts jobs of a batch that were put aside back in line, as many as may be sent now.
local function release(batch, now)
  local room = math.min(batch_room(batch) or math.huge, RELEASED_AT_ONCE)
  for _, id in ipairs(room > 0 and redis.call('ZRANGE', key('held', batch), 0, room - 1) or {}) do
    local place, state, arrived = standing_of(id)
    let_go(batch, id)
    if state then
      put_in_line(id, place, arrived, now, now)
    end
  end
end

-- A batch in which as many jobs have failed as it bears is held until a person has it go on.
local function hold_if_too_many_failed(batch, now)
  local kept = redis.call('HMGET', key('batch', batch), 'stopAfter', 'failed', 'forgiven', 'held')
  if kept[1] and not kept[4] and kept[2] - (tonumber(kept[3]) or 0) >= tonumber(kept[1]) then
    redis.call('HSET', key('batch', batch), 'held', 'failures', 'heldAt', whole(now))
    notice_held(batch, kept[2], now)
  end
end

-- Jobs that wait in a sold-out lane, and have a next choice, stand in the lane of that one too once its time has come.
local function open_choices(now)
  for _, lane in ipairs(redis.call('ZRANGEBYSCORE', key('openings'), '-inf', now, 'LIMIT', 0, OPENINGS_AT_ONCE)) do
    for _, id in ipairs(is_sold_out(lane)
      and redis.call('ZRANGEBYSCORE', key('choices', lane), '-inf', now, 'LIMIT', 0, LINED_UP_AT_ONCE) or {}) do
      redis.call('ZREM', key('choices', lane), id)
      if redis.call('EXISTS', key('job', id)) == 1 then
        local chosen = redis.call('HINCRBY', key('job', id), 'chosen', 1)
        local place, state, arrived = standing_of(id)
        put_in_line(id, place, arrived, now, now)
        note(id, now, {event = 'fallback', state = state,
          message = lane .. ' is sold out: from now on also in ' .. place.lanes[#place.lanes]})
      end
    end
    local first = redis.call('ZRANGE', key('choices', lane), 0, 0, 'WITHSCORES')[2]
    if first and is_sold_out(lane) then
      redis.call('ZADD', key('openings'), first, lane)
    else
      redis.call('ZREM', key('openings'), lane)
    end
  end
end

-- How many calls of this lane may be made now.
local function lane_room(lane, waits, limit)
  if not waits then
    return limit
  end
  local held = redis.call('HMGET', key('lane', lane), 'width', 'flying', 'open')
  if held[3] then
    return limit
  end
  return math.min(limit, (tonumber(held[1]) or FIRST_WIDTH) - (tonumber(held[2]) or 0))
end

local function count_flying(lane, by, now)
  if redis.call('HINCRBY', key('lane', lane), 'flying', by) < 0 then
    redis.call('HSET', key('lane', lane), 'flying', '0')
  end
  redis.call('PEXPIRE', key('lane', lane), LANE_KEPT_MS)
  if by < 0 then
    -- There is room again; but a probe that brought no news is not repeated at once, and no call from before the closing
    -- brings the next one forward.
    local probe_at = redis.call('HGET', key('lane', lane), 'probeAt')
    serve_lane(lane, probe_at and math.max(now + FULL_MS, tonumber(probe_at)) or now)
  end
end

-- An answer says that the lane is sold out. `epoch` is the lane's when the call was claimed, `wait` (ms) until the next probe.
local function close_lane(lane, epoch, wait, message, now)
  local held = redis.call('HMGET', key('lane', lane), 'epoch', 'since')
  if (held[1] or '0') ~= (epoch or '0') then
    return
  end
  redis.call('HDEL', key('lane', lane), 'open', 'skipped', 'emptyAt')
  redis.call('HSET', key('lane', lane), 'width', '1', 'probeAt', whole(now + wait), 'message', message,
    'since', held[2] or whole(now))
  redis.call('HINCRBY', key('lane', lane), 'epoch', 1)
  redis.call('PEXPIRE', key('lane', lane), math.max(LANE_KEPT_MS, 2 * wait))
  serve_lane(lane, now + wait)
  local opens = redis.call('ZRANGE', key('choices', lane), 0, 0, 'WITHSCORES')[2]
  if opens then
    redis.call('ZADD', key('openings'), 'LT', math.max(now, tonumber(opens)), lane)
  end
end

-- A call of the lane created an instance.
local function widen_lane(lane, epoch, now)
  local held = redis.call('HMGET', key('lane', lane), 'epoch', 'width', 'open', 'probeAt', 'message', 'since')
  if (held[1] or '0') ~= (epoch or '0') or held[3] then
    return
  end
  if held[4] then
    notice_opening(lane, held[5], held[6], now)
  end
  local width = (tonumber(held[2]) or FIRST_WIDTH) + 1
  redis.call('HDEL', key('lane', lane), 'probeAt', 'message', 'since', 'skipped', 'emptyAt')
  if width > OPEN_WIDTH then
    redis.call('HDEL', key('lane', lane), 'width')
    redis.call('HSET', key('lane', lane), 'open', '1')
  else
    redis.call('HSET', key('lane', lane), 'width', whole(width))
  end
  -- A late answer may be the first that is heard of this lane for long.
  redis.call('PEXPIRE', key('lane', lane), LANE_KEPT_MS)
  serve_lane(lane, now)
end

-- Where a job is kept: `due` and its lane's queue while it waits, `leases` while somebody must find out what became of its
-- last attempt, `ended` after its end.
local function home(state)
  return ENDS[state] and 'ended' or WATCHED[state] and 'leases' or 'line'
end

-- Moves one job along the table, or refuses. `set` holds the hash fields that change with it ('' empties one);
-- `look` is when to look at the job next (ms), needed for every state that is not an end; `by` is who did it, for the
-- history. Returns the new state, or false where the table has no such move.
function move(id, event, now, look, set, by)
  local job = key('job', id)
  local old = read_job(id, 'state', 'batchId', 'attempt', 'reason', 'instanceId', 'name', 'unique', 'lane', 'arrived', 'waits',
    'until', 'choices', 'chosen')
  local new = old[1] and MOVES[old[1]] and MOVES[old[1]][event]
  if not new then
    return false
  end
  local fields = {'state', new, 'updatedAt', whole(now)}
  for name, value in pairs(set) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  local from, to, lane = home(old[1]), home(new), old[8] or ''
  local arrived = tonumber(set.arrived or old[9] or '0')
  if from == 'line' then
    take_out_of_line(id, standing(lane, old[10], old[12], old[13], 0), old[2])
  elseif from ~= to then
    redis.call('ZREM', key(from), id)
  end
  if old[10] and old[1] ~= new then
    if old[1] == 'submitting' then count_flying(lane, -1, now) end
    if new == 'submitting' then count_flying(set.lane or lane, 1, now) end
  end
  if to == 'ended' then
    redis.call('ZADD', key(to), now, id)
    if old[11] then
      redis.call('ZREM', key('deadlines'), id)
    end
    if old[2] then
      redis.call('HSET', key('batch', old[2]), 'endedAt', whole(now))
    end
  else
    fields[#fields + 1] = 'dueAt'
    fields[#fields + 1] = whole(look)
    if from == 'ended' and old[11] then
      redis.call('ZADD', key('deadlines'), old[11], id)
    end
    if to == 'line' then
      put_in_line(id, standing(lane, old[10], old[12], set.chosen or old[13], arrived), arrived > 0 and arrived or now, look, now)
    else
      redis.call('ZADD', key(to), look, id)
    end
  end
  redis.call('HSET', job, unpack(fields))
  redis.call('ZADD', key('changed'), now, id)
  redis.call('HINCRBY', key('moves'), event .. ':' .. (set.category or ''), 1)
  if new ~= old[1] then
    if old[2] and ENDS[old[1]] and not ENDS[new] then
      notice_begin(old[2], now)
    end
    count(old[1], old[2], -1)
    count(new, old[2], 1)
    notice_move(id, old[1], new, old[2], old[6], set.message, now)
    if old[2] and new == 'failed' then
      hold_if_too_many_failed(old[2], now)
    end
    if old[2] and WATCHED[old[1]] and not WATCHED[new] and redis.call('EXISTS', key('held', old[2])) == 1 then
      release(old[2], now)
    end
    if not old[7] then
      count_names(old[6], old[1], new)
    end
  end
  -- A claim needs no line of its own: how its attempt ended will be one.
  if event ~= 'claim' then
    note(id, now, {
      event = event, state = new, attempt = set.attempt or old[3], category = set.category, message = set.message,
      instanceId = set.instanceId, by = by,
    })
  end
  tell(id, new, set.reason or old[4], set.attempt or old[3], old[2], set.instanceId or old[5])
  return new
end

-- The instance belongs to this job from now on: no other job may adopt it, also when this one is forgotten.
local function own(instance, id, now)
  redis.call('HSET', key('owners'), instance, id)
  redis.call('ZADD', key('seen'), 'NX', now, instance)
end

-- When lookups are due, in ms after the end of an attempt became unknown: after each of the verify delays, and a few times
-- more while the list cannot be read. `delays` is how calls.py writes them: '5000,15000,45000'.
local function lookups_at(delays)
  local at, settled = {}, 0
  for text in string.gmatch(delays, '%d+') do
    at[#at + 1] = tonumber(text)
    settled = settled + 1
  end
  for more = 1, 3 do
    at[#at + 1] = at[settled] * 2 ^ more
  end
  return at, settled
end

-- What a job gets when the end of its last attempt becomes unknown, and when it is looked up first.
local function doubt(id, now, delays)
  local job = redis.call('HMGET', key('job', id), 'dueAt', 'attempts', 'tries', 'doubtful', 'attempt')
  return {
    doubtedAt = whole(now), leaseEnd = job[1], lookups = '0', absences = '0', reason = '',
    -- The first attempt that may have created an instance.
    doubtful = job[4] or job[5],
    attempts = whole((tonumber(job[2]) or 0) + 1), tries = whole((tonumber(job[3]) or 0) + 1),
  }, now + lookups_at(delays)[1]
end

-- A job that has its instance keeps nothing of its doubts but its history. A poller asks for the message only to learn of an
-- error.
local function settle_doubt(id)
  redis.call('HDEL', key('job', id), 'message', 'category', 'reason', 'since', 'baseline', 'doubtedAt', 'leaseEnd', 'lookups',
    'absences', 'doubtful', 'lookedUpBy')
end

-- Leases that ran out: their workers died or were paused, and nobody knows what their calls did.
local function expire_lost(now, delays)
  if outdated() then
    return  -- what is to become of them, the newer one knows
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('leases'), '-inf', now, 'LIMIT', 0, EXPIRED_AT_ONCE)) do
    local job = redis.call('HMGET', key('job', id), 'state', 'worker')
    if job[1] == 'submitting' then
      local set, look = doubt(id, now, delays)
      set.category, set.message = 'unknown', 'the worker was lost during the create call'
      move(id, 'expire', now, look, set, job[2])
    elseif not WATCHED[job[1]] then
      redis.call('ZREM', key('leases'), id)
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
  local account = redis.call('HMGET', key('account'), 'state', 'until', 'reason', 'pausedBy')
  if account[4] then
    return false, 'paused', '', 'person'
  end
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
  local before = redis.call('HMGET', key('account'), 'state', 'reason')
  if before[1] ~= state then
    redis.call('HSET', key('account'), 'since', whole(now))
  end
  if state == 'blocked' and (before[1] ~= state or before[2] ~= reason) then
    notice_block(reason, message, now)
  end
  redis.call('HSET', key('account'), 'state', state, 'reason', reason, 'message', message, 'until', till)
end

-- The token that all workers share, as claims and lookups hand it out: {value, version, ms left, ms of life}, '' where
-- there is none or it is unknown.
local function held_token(now)
  local held = redis.call('HMGET', key('token'), 'value', 'version', 'expiresAt', 'storedAt')
  if held[1] and held[3] then
    return {held[1], held[2], whole(held[3] - now), whole(held[3] - held[4])}
  end
  return held[1] and {held[1], held[2], '', ''} or {'', '', '', ''}
end

-- The first time of a set (ms), or nil where it is empty.
local function first_of(set)
  local first = redis.call('ZRANGE', key(set), 0, 0, 'WITHSCORES')[2]
  return first and tonumber(first)
end

-- Whether jobs wait for a lookup that nobody is making.
local function lookup_is_due(now)
  local first = first_of('leases')
  return first and first <= now and redis.call('EXISTS', key('lookup')) == 0
end

-- When there may be something to claim (ms), or nil: the next job that falls due, the next lane that may be served, or the
-- next choice of a job that waits in a sold-out lane.
local function first_claim()
  local first
  for _, set in ipairs({'due', 'lanes', 'openings'}) do
    local one = first_of(set)
    first = one and math.min(one, first or one) or first
  end
  return first
end

-- Jobs whose time is up fail; one whose attempt is under way, when that has ended.
local function give_up(id, now)
  local job = read_job(id, 'state', 'lane', 'category', 'message', 'until')
  if not job[5] or tonumber(job[5]) > now or not (MOVES[job[1]] or {}).giveUp then
    return false
  end
  local message = job[4] or redis.call('HGET', key('lane', job[2] or ''), 'message')
    or 'its time was up before a call could be made'
  local category = job[3] and job[3] ~= '' and job[3] or 'capacity'
  return move(id, 'giveUp', now, now, {category = category, message = message, reason = ''})
end

-- The account's budget of calls, and by how many a second it fills now; nil where there is no limit (`rate` is 0). It holds a
-- tenth of a second's worth: calls are spread, not sent in bursts. Every 429 halves the rate, instances let it grow again
-- (settle.lua).
local function budget_of(rate, now)
  if rate <= 0 then
    return nil
  end
  local kept = redis.call('HMGET', key('rate'), 'budget', 'at', 'factor')
  rate = rate * (tonumber(kept[3]) or 1)
  local most = math.max(1, rate / 10)
  return math.min(most, (tonumber(kept[1]) or most) + (now - (tonumber(kept[2]) or now)) * rate / 1000), rate
end

-- The ms until the budget holds one whole call more.
local function one_more_in(budget, fills)
  return math.ceil((1 - (budget - math.floor(budget))) * 1000 / fills)
end

local function spend(budget, calls, now)
  redis.call('HSET', key('rate'), 'budget', tostring(budget - calls), 'at', whole(now))
end
