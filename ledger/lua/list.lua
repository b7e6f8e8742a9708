-- Ids of jobs, the latest change first. Changes nothing but the order itself (`changed`), so it is safe to repeat.
-- ARGV: base, state ('' is any), batch id ('' is any), text in the name ('' is any), where the page before ended: time (ms; ''
--       is the beginning) and job id; how many ids at the most, how many jobs to look at in the most.
-- Returns {time, id of the last job that was looked at, or '' and '' where there are no more; ids ...}.

local state, batch, text, time, last, limit, look = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local SMALL_BATCH = 1000
local changed = key('changed')

-- Jobs that an older launchq has entered, or that are older than this order, are not in it.
local function complete()
  local kept, numbers = 0, redis.call('HVALS', key('counts'))
  for _, number in ipairs(numbers) do
    kept = kept + number
  end
  if redis.call('ZCARD', changed) >= kept then
    return
  end
  local homes = {key('due'), key('leases'), key('ended')}
  for _, lane in ipairs(redis.call('ZRANGE', key('lanes'), 0, -1)) do
    homes[#homes + 1] = key('ready', lane)
  end
  for _, held in ipairs(redis.call('SMEMBERS', key('holding'))) do
    homes[#homes + 1] = key('held', held)
  end
  for _, home in ipairs(homes) do
    for _, id in ipairs(redis.call('ZRANGE', home, 0, -1)) do
      local updated = redis.call('HGET', key('job', id), 'updatedAt')
      if updated then
        redis.call('ZADD', changed, 'NX', updated, id)
      end
    end
  end
end

-- The jobs to look at: {id, when it changed} ..., and whether there are more.
local function candidates()
  local found = {}
  if batch ~= '' and (tonumber(redis.call('HGET', key('batch', batch), 'total') or '0')) <= SMALL_BATCH then
    for _, id in ipairs(redis.call('HVALS', key('entries', batch))) do
      local at = tonumber(redis.call('ZSCORE', changed, id) or '-1')
      if at >= 0 and (time == '' or at < tonumber(time) or at == tonumber(time) and id < last) then
        found[#found + 1] = {id, at}
      end
    end
    table.sort(found, function(one, other)
      return one[2] > other[2] or one[2] == other[2] and one[1] > other[1]
    end)
    return found, false
  end
  local first = 0
  if time ~= '' then
    if redis.call('ZSCORE', changed, last) == time then
      first = redis.call('ZREVRANK', changed, last) + 1
    else
      first = redis.call('ZCOUNT', changed, '(' .. time, '+inf')
    end
  end
  local flat = redis.call('ZREVRANGE', changed, first, first + look - 1, 'WITHSCORES')
  for at = 1, #flat, 2 do
    found[#found + 1] = {flat[at], tonumber(flat[at + 1])}
  end
  return found, #found == look
end

-- Whether this job is one of those that are asked for; nil where there is no such job. One field after the other: most jobs
-- fail the first.
local function fits(id)
  local job = key('job', id)
  local is = redis.call('HGET', job, 'state')
  if not is then
    return nil
  end
  return (state == '' or is == state)
    and (batch == '' or redis.call('HGET', job, 'batchId') == batch)
    and (text == '' or string.find(string.lower(redis.call('HGET', job, 'name') or ''), text, 1, true) ~= nil)
end

if state ~= '' and tonumber(redis.call('HGET', batch == '' and key('counts') or key('batch', batch), state) or '0') <= 0 then
  return {'', ''}
end
complete()
local ids = {}
local found, more = candidates()
text = string.lower(text)
for at, one in ipairs(found) do
  time, last = whole(one[2]), one[1]
  local fit = fits(last)
  if fit == nil then
    redis.call('ZREM', changed, last)  -- an older launchq has forgotten it
  elseif fit then
    ids[#ids + 1] = last
    if #ids == limit then
      more = more or at < #found
      break
    end
  end
end
return {more and time or '', more and last or '', unpack(ids)}
