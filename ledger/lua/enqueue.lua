-- Enters jobs, all of them or, where one conflicts, none. Safe to repeat: ids are made by the producer.
-- ARGV: base, 'enter' or 'check', batch id ('' is none), how many calls of the batch may be in flight and how many of its
--       jobs may fail before it is held ('' leaves that as it is, '0' is any number), number of templates,
--       then 10 for each template, which is what jobs have in common: its id, request body (with an empty name, or for one job only),
--       lane, waits ('1': for capacity), unique ('1': the job's tag is added to the name sent), max attempts ('' is the workers'),
--       how long a job is tried from its start on (ms; '' is for ever), choices (JSON: [{lane, after (ms)} ...], the first of
--       them the request itself; '' is no fallback), the others' bodies,
--       digests of the body ('' where bodies are not sealed), the first to be kept, each a sign that an older body is the same;
--       then 7 for each job: id, name, idempotency key, entry of the batch, which of the templates (from 1),
--       start ('' is now, '+ms' from now, or ms since 1970), a job that was found to have the same request ('' is none)
-- Returns {wake, {id, name, state, duplicate} for each job}, or {'conflict', {job id that exists, index} ...}.
-- A conflict: the key or the entry stands for a job whose request is another one.

local FIRST, TEMPLATE, FIELDS = 7, 10, 7
local SHARED_NAMES = {'request', 'lane', 'waits', 'unique', 'maxAttempts', 'patience', 'choices', 'bodies'}
local check, batch = ARGV[2] == 'check', ARGV[3]
local now = now_ms()
local entries = batch ~= '' and key('entries', batch) or nil

local given = {}
for number = 1, tonumber(ARGV[6]) do
  local at = FIRST + (number - 1) * TEMPLATE
  local fields = {id = ARGV[at], digests = ARGV[at + 9], jobs = 0}
  for place, name in ipairs(SHARED_NAMES) do
    fields[name] = ARGV[at + place] ~= '' and ARGV[at + place] or nil
  end
  given[number] = fields
end
local first_job = FIRST + #given * TEMPLATE

local function existing(at)
  if ARGV[at + 2] ~= '' then
    local id = redis.call('GET', key('key', ARGV[at + 2]))
    if id then
      return id
    end
  end
  if entries and ARGV[at + 3] ~= '' then
    local id = redis.call('HGET', entries, ARGV[at + 3])
    if id then
      return id
    end
  end
  return redis.call('EXISTS', key('job', ARGV[at])) == 1 and ARGV[at] or nil
end

-- Bodies may be sealed, and no two seals of the same one are alike. Without a digest, the older body was never sealed.
local function same(job, at)
  local mine = given[tonumber(ARGV[at + 4])]
  if job[3] ~= ARGV[at + 1] then
    return false
  elseif not job[2] and job[1] == mine.request then
    return true
  end
  return mine.digests ~= '' and string.find(mine.digests, job[2] or redis.sha1hex(job[1]), 1, true)
end

local conflicts = {}
for at = first_job, #ARGV, FIELDS do
  local id = existing(at)
  local job = id and id ~= ARGV[at + 6] and read_job(id, 'request', 'digest', 'name')
  if job and job[1] and not same(job, at) then
    conflicts[#conflicts + 1] = {id, (at - first_job) / FIELDS}
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
for at = first_job, #ARGV, FIELDS do
  local id, name = ARGV[at], ARGV[at + 1]
  local old = existing(at)
  if old then
    local kept = redis.call('HMGET', key('job', old), 'state', 'name')
    -- The same id again is this very call repeated by the Redis client, not a second submission.
    jobs[#jobs + 1] = {old, kept[2] or name, kept[1] or 'uncertain', old == id and 0 or 1}
  else
    local shared, start = given[tonumber(ARGV[at + 4])], ARGV[at + 5]
    shared.jobs = shared.jobs + 1
    local due = start == '' and now or string.sub(start, 1, 1) == '+' and now + string.sub(start, 2) or tonumber(start)
    due = math.max(due, now)
    local state = due > now and 'scheduled' or 'queued'
    -- In order of arrival also within one millisecond.
    local arrived = string.format('%.3f', due + entered / 1000)
    local fields = {
      'state', state, 'name', name, 'template', shared.id, 'createdAt', whole(now), 'updatedAt', whole(now), 'dueAt', whole(due),
      'arrived', arrived,
    }
    local optional = {
      key = ARGV[at + 2], entry = ARGV[at + 3], batchId = batch,
      ['until'] = shared.patience and whole(due + shared.patience) or '', chosen = shared.choices and '1' or '',
    }
    for field, value in pairs(optional) do
      if value ~= '' then
        fields[#fields + 1] = field
        fields[#fields + 1] = value
      end
    end
    redis.call('HSET', key('job', id), unpack(fields))
    put_in_line(id, standing(shared.lane or '', shared.waits, shared.choices, 1, tonumber(arrived)), arrived, due, now)
    if optional['until'] ~= '' then
      redis.call('ZADD', key('deadlines'), optional['until'], id)
    end
    if ARGV[at + 2] ~= '' then
      redis.call('SET', key('key', ARGV[at + 2]), id)
    end
    if entries then
      if ARGV[at + 3] ~= '' then
        redis.call('HSET', entries, ARGV[at + 3], id)
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
for _, shared in ipairs(given) do
  if shared.jobs > 0 and redis.call('HINCRBY', key('template', shared.id), 'jobs', shared.jobs) == shared.jobs then
    for _, name in ipairs(SHARED_NAMES) do
      if shared[name] then
        redis.call('HSET', key('template', shared.id), name, shared[name])
      end
    end
    if shared.digests ~= '' then
      redis.call('HSET', key('template', shared.id), 'digest', string.match(shared.digests, '%S+'))
    end
  end
end
return {entered > 0 and tostring(wants_wake()) or '0', jobs}
