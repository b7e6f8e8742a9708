-- Reads jobs. ARGV: base, job ids.
-- Returns for each {its hash as a flat list, empty where there is none; its history, the oldest line first}.

local jobs = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  jobs[#jobs + 1] = {redis.call('HGETALL', key('job', id)), redis.call('LRANGE', key('history', id), 0, -1)}
end
return jobs
