-- Reads jobs. ARGV: base, job ids.
-- Returns for each {its hash as a flat list, empty where there is none; its history, the oldest line first}.

local jobs = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  local fields = redis.call('HGETALL', key('job', id))
  local shared = #fields > 0 and redis.call('HGET', key('job', id), 'template')
  for name, value in pairs(shared and template(shared) or {}) do
    if SHARED[name] and redis.call('HEXISTS', key('job', id), name) == 0 then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  local job = read_job(id, 'state', 'waits', 'dueAt')
  if job[2] and (job[1] == 'queued' or job[1] == 'retrying') then
    -- What waits in sold-out lanes is due when the first of them is probed next, or at its own time, if that is later.
    local first
    for _, lane in ipairs(standing_of(id).lanes) do
      local probe_at = tonumber(redis.call('HGET', key('lane', lane), 'probeAt') or '0')
      first = math.min(first or probe_at, probe_at)
    end
    if first > tonumber(job[3]) then
      fields[#fields + 1] = 'dueAt'
      fields[#fields + 1] = whole(first)
    end
  end
  jobs[#jobs + 1] = {fields, redis.call('LRANGE', key('history', id), 0, -1)}
end
return jobs
