-- Reads jobs. A job whose lease has run out is looked at on the way, so that nobody reads `submitting` of a call
-- that died with its worker, even while no worker runs.
-- ARGV: base, job ids. Returns for each its hash as a flat list, empty where there is none.

local now = now_ms()
local jobs = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  local job = redis.call('HMGET', key('job', id), 'state', 'dueAt')
  if job[1] == 'submitting' and tonumber(job[2]) <= now then
    expire(id, now)
  end
  jobs[#jobs + 1] = redis.call('HGETALL', key('job', id))
end
return jobs
