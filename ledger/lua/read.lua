-- Reads jobs. ARGV: base, '1' with their histories, job ids.
-- Returns for each {its hash as a flat list, empty where there is none; its history, oldest first}.

local jobs = {}
for at = 3, #ARGV do
  local id = ARGV[at]
  jobs[#jobs + 1] = {
    redis.call('HGETALL', key('job', id)),
    ARGV[2] == '1' and redis.call('LRANGE', key('history', id), 0, -1) or {},
  }
end
return jobs
