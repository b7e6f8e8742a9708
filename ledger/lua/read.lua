-- Reads jobs. ARGV: base, job ids.
-- Returns for each {its hash as a flat list, empty where there is none; its history, the oldest line first}.

local jobs = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  local fields = redis.call('HGETALL', key('job', id))
  local job = redis.call('HMGET', key('job', id), 'state', 'lane', 'waits', 'dueAt')
  if job[3] and (job[1] == 'queued' or job[1] == 'retrying') then
    -- What waits in a sold-out lane is due when the lane is probed next, or at its own time, if that is later.
    local probe_at = redis.call('HGET', key('lane', job[2] or ''), 'probeAt')
    if probe_at and tonumber(probe_at) > tonumber(job[4]) then
      fields[#fields + 1] = 'dueAt'
      fields[#fields + 1] = probe_at
    end
  end
  jobs[#jobs + 1] = {fields, redis.call('LRANGE', key('history', id), 0, -1)}
end
return jobs
