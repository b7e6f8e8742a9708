-- Enters jobs, all of them or, where one conflicts, none. Safe to repeat: ids are made by the producer.
-- ARGV: base, 'enter' or 'check', batch id ('' is none), how many calls of the batch may be in flight and how many of its
--       jobs may fail before it is held ('' leaves that as it is, '0' is any number), then 14 for each job:
--       id, name, request body, idempotency key, entry of the batch, max attempts ('' is the workers'),
--       waits ('1': it waits for capacity), unique ('1': the job's tag is added to the name sent), lane,
--       start ('' is now, '+ms' from now, or ms since 1970), how long it is tried from then on (ms; '' is for ever),
--       digests of the body ('' where bodies are not sealed), the first to be kept, each a sign that an older body is the same,
--       choices (JSON: [{lane, after (ms)} ...], the first of them the request itself; '' is no fallback), the others' bodies
-- Returns {wake, {id, name, state, duplicate} for each job}, or {'conflict', {job id that exists, index} ...}.
-- A conflict: the key or the entry stands for a job whose request is another one.

local FIELDS = 14
local check, batch = ARGV[2] == 'check', ARGV[3]
local now = now_ms()
local FIRST = 6
local entries = batch ~= '' and key('entries', batch) or nil

local function existing(at)
  if ARGV[at + 3] ~= '' then
    local id = redis.call('GET', key('key', ARGV[at + 3]))
    if id then
      return id
    end
  end
  if entries and ARGV[at + 4] ~= '' then
    local id = redis.call('HGET', entries, ARGV[at + 4])
    if id then
      return id
    end
  end
  return redis.call('EXISTS', key('job', ARGV[at])) == 1 and ARGV[at] or nil
end

-- Bodies may be sealed, and no two seals of the same one are alike. Without a digest, the older body was never sealed.
local function same(job, at)
  if not job[2] and job[1] == ARGV[at + 2] then
    return true
  end
  local digests = ARGV[at + 11]
  return digests ~= '' and string.find(digests, job[2] or redis.sha1hex(job[1]), 1, true)
end

local conflicts = {}
for at = FIRST, #ARGV, FIELDS do
  local id = existing(at)
  local job = id and redis.call('HMGET', key('job', id), 'request', 'digest')
  if job and job[1] and not same(job, at) then
    conflicts[#conflicts + 1] = {id, (at - FIRST) / FIELDS}
  end
end
if #conflicts > 0 then
  return {'conflict', conflicts}
end
if check then
  return {'0', {}}
end

mark_version()
if redis.call('EXISTS', key('counts')) == 0 then
  redis.call('SET', key('ordered'), '1')
end
for field, value in pairs({maxParallel = ARGV[4], stopAfter = ARGV[5]}) do
  if value == '0' then
    redis.call('HDEL', key('batch', batch), field)
  elseif value ~= '' then
    redis.call('HSET', key('batch', batch), field, value)
  end
end
local jobs, entered = {}, 0
for at = FIRST, #ARGV, FIELDS do
  local id, name = ARGV[at], ARGV[at + 1]
  local old = existing(at)
  if old then
    local state = redis.call('HGET', key('job', old), 'state') or 'uncertain'
    -- The same id again is this very call repeated by the Redis client, not a second submission.
    jobs[#jobs + 1] = {old, redis.call('HGET', key('job', old), 'name') or name, state, old == id and 0 or 1}
  else
    local start = ARGV[at + 9]
    local due = start == '' and now or string.sub(start, 1, 1) == '+' and now + string.sub(start, 2) or tonumber(start)
    due = math.max(due, now)
    local state = due > now and 'scheduled' or 'queued'
    -- In order of arrival also within one millisecond.
    local arrived = string.format('%.3f', due + entered / 1000)
    local fields = {
      'state', state, 'name', name, 'request', ARGV[at + 2], 'createdAt', whole(now), 'updatedAt', whole(now),
      'dueAt', whole(due), 'arrived', arrived, 'lane', ARGV[at + 8], 'attempt', '0', 'attempts', '0', 'tries', '0',
    }
    local optional = {
      key = ARGV[at + 3], entry = ARGV[at + 4], maxAttempts = ARGV[at + 5], waits = ARGV[at + 6], unique = ARGV[at + 7],
      batchId = batch, ['until'] = ARGV[at + 10] ~= '' and whole(due + ARGV[at + 10]) or '', patience = ARGV[at + 10],
      digest = string.match(ARGV[at + 11], '%S+') or '', choices = ARGV[at + 12], bodies = ARGV[at + 13],
      chosen = ARGV[at + 12] ~= '' and '1' or '',
    }
    for field, value in pairs(optional) do
      if value ~= '' then
        fields[#fields + 1] = field
        fields[#fields + 1] = value
      end
    end
    redis.call('HSET', key('job', id), unpack(fields))
    local choices = ARGV[at + 12] ~= '' and ARGV[at + 12]
    put_in_line(id, standing(ARGV[at + 8], ARGV[at + 6] ~= '', choices, 1, tonumber(arrived)), arrived, due, now)
    if optional['until'] ~= '' then
      redis.call('ZADD', key('deadlines'), optional['until'], id)
    end
    if ARGV[at + 3] ~= '' then
      redis.call('SET', key('key', ARGV[at + 3]), id)
    end
    if entries then
      if ARGV[at + 4] ~= '' then
        redis.call('HSET', entries, ARGV[at + 4], id)
      end
      if entered == 0 then
        notice_begin(batch, now)
      end
      if redis.call('HSETNX', key('batch', batch), 'createdAt', whole(now)) == 1 then
        redis.call('ZADD', key('batches'), now, batch)
      end
      redis.call('HINCRBY', key('batch', batch), 'total', 1)
    end
    if state == 'scheduled' then
      redis.call('ZADD', key('changed'), now, id)  -- its place in line is another time (list.lua)
    end
    count(state, batch, 1)
    tell(id, state, nil, nil, batch)
    jobs[#jobs + 1] = {id, name, state, 0}
    entered = entered + 1
  end
end
return {entered > 0 and tostring(wants_wake()) or '0', jobs}
