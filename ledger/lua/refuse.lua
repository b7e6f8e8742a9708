-- Records a job that arrived in a message and cannot be launched, so that whoever waits for it reads why.
-- Safe to repeat. ARGV: base, id, name, message. Returns 1, or 0 where the job exists.

local id = ARGV[2]
if redis.call('EXISTS', key('job', id)) == 1 then
  return 0
end
local now = now_ms()
redis.call('HSET', key('job', id), 'state', 'failed', 'name', ARGV[3], 'category', 'invalid', 'message', ARGV[4],
  'createdAt', whole(now), 'updatedAt', whole(now), 'attempt', '0', 'attempts', '0', 'tries', '0', 'request', '{}')
redis.call('ZADD', key('ended'), now, id)
redis.call('ZADD', key('changed'), now, id)
count('failed', nil, 1)
tell(id, 'failed')
notice_move(id, '', 'failed', nil, ARGV[3], ARGV[4], now)
return 1
