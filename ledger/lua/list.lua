-- Ids of jobs, the latest change first. Safe to repeat.
-- ARGV: base, state ('' is any), batch id ('' is any), text in the name ('' is any), where the page before ended: time (ms; ''
--       is the beginning) and job id; how many ids at the most, how many jobs to look at in the most.
-- Returns {time, id of the last job that was looked at, or '' and '' where there are no more; ids ...}.
--
-- `changed` has the order. Only jobs that have waited in line ever since they were entered are not in it: for each of those a
-- member would cost memory that the line already has, and there it stands by the time at which it was entered.

local state, batch, text, time, last, limit, look = ARGV[2], ARGV[3], string.lower(ARGV[4]), ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local SMALL_BATCH = 1000
local AT_ONCE = math.max(20, math.min(limit, 100))
local changed = key('changed')

local function lines()
  local found = {}
  for _, lane in ipairs(redis.call('ZRANGE', key('lanes'), 0, -1)) do
    found[#found + 1] = key('ready', lane)
  end
  for _, held in ipairs(redis.call('SMEMBERS', key('holding'))) do
    found[#found + 1] = key('held', held)
  end
  return found
end

-- Jobs of a ledger that is older than this order come into it, once.
local function complete()
  if redis.call('SETNX', key('ordered'), '1') == 0 then
    return
  end
  local function enter(home, in_line)
    local flat = redis.call('ZRANGE', home, 0, -1, 'WITHSCORES')
    for at = 1, #flat, 2 do
      local job = redis.call('HMGET', key('job', flat[at]), 'updatedAt', 'state')
      if job[1] and not (in_line and job[2] == 'queued' and math.floor(flat[at + 1]) == tonumber(job[1])) then
        redis.call('ZADD', changed, 'NX', job[1], flat[at])
      end
    end
  end
  for _, home in ipairs({'due', 'leases', 'ended'}) do
    enter(key(home), false)
  end
  for _, home in ipairs(lines()) do
    enter(home, true)
  end
end

-- Whether one place in the order comes after another: an earlier time, or at the same time a lower id.
local function after(time_one, id_one, time_other, id_other)
  return time_one < time_other or time_one == time_other and id_one < id_other
end

-- One sorted set's part of the order, from where the page before ended. `head` is its next job, nil where there is none.
local function part_of(set)
  local part = {set = set, at = 0, flat = {}, first = 0}
  if time ~= '' then
    part.first = redis.call('ZSCORE', set, last) == time and redis.call('ZREVRANK', set, last) + 1
      or redis.call('ZCOUNT', set, '(' .. time, '+inf')
  end
  return part
end

local function step(part)
  repeat
    part.at = part.at + 2
    if part.at > #part.flat then
      part.flat = redis.call('ZREVRANGE', part.set, part.first, part.first + AT_ONCE - 1, 'WITHSCORES')
      part.first, part.at = part.first + AT_ONCE, 2
    end
    local id, score = part.flat[part.at - 1], part.flat[part.at]
    part.head = id and {id = id, score = score, time = tonumber(score)}
  until not id or time == '' or after(part.head.time, id, tonumber(time), last)
end

-- The next job of all parts, each time it is called.
local function merged(sets)
  local parts = {}
  for _, set in ipairs(sets) do
    local part = part_of(set)
    step(part)
    parts[#parts + 1] = part
  end
  return function()
    local best
    for _, part in ipairs(parts) do
      if part.head and (not best or after(best.head.time, best.head.id, part.head.time, part.head.id)) then
        best = part
      end
    end
    local head = best and best.head
    if best then
      head.in_line = best.set ~= changed
      step(best)
    end
    return head
  end
end

-- The same for a batch of which all entries can be looked at.
local function of_entries()
  local found = {}
  for _, id in ipairs(redis.call('HVALS', key('entries', batch))) do
    local score = redis.call('ZSCORE', changed, id) or redis.call('HGET', key('job', id), 'arrived')
    local at = tonumber(score or '-1')
    if at >= 0 and (time == '' or after(at, id, tonumber(time), last)) then
      found[#found + 1] = {id = id, score = score, time = at}
    end
  end
  table.sort(found, function(one, other)
    return after(other.time, other.id, one.time, one.id)
  end)
  local at = 0
  return function()
    at = at + 1
    return found[at]
  end
end

-- Whether this job is one of those that are asked for; nil where there is no such job.
local function fits(id)
  local job = redis.call('HMGET', key('job', id), 'state', 'batchId', 'name')
  if not job[1] then
    return nil
  end
  return (state == '' or job[1] == state) and (batch == '' or job[2] == batch)
    and (text == '' or string.find(string.lower(job[3] or ''), text, 1, true) ~= nil)
end

if state ~= '' and tonumber(redis.call('HGET', batch == '' and key('counts') or key('batch', batch), state) or '0') <= 0 then
  return {'', ''}
end
complete()
local next_one
if batch ~= '' and (tonumber(redis.call('HGET', key('batch', batch), 'total') or '0')) <= SMALL_BATCH then
  next_one, look = of_entries(), math.huge
else
  local sets = {changed}  -- the first: at the same place in the order it goes before the lines
  if state == '' or state == 'queued' then
    for _, line in ipairs(lines()) do
      sets[#sets + 1] = line
    end
  end
  next_one = merged(sets)
end
local ids, looked, one = {}, 0, next_one()
local told  -- the latest of them: a job with fallbacks stands in several lines, at the same time
while one and #ids < limit and looked < look do
  looked, time, last = looked + 1, one.score, one.id
  local fit = last ~= told and fits(last)
  if fit == nil then
    redis.call('ZREM', changed, last)  -- an older launchq has forgotten it
  elseif fit and not (one.in_line and redis.call('ZSCORE', changed, last)) then
    -- A job in line that has moved stands in `changed` too, and is told from there.
    ids[#ids + 1], told = last, last
  end
  one = next_one()
end
return {one and time or '', one and last or '', unpack(ids)}
