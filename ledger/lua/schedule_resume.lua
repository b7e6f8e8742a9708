-- Ends the pause of a schedule: what was missed meanwhile is not caught up. Safe to repeat.
-- ARGV: base, name, revision, next trigger (ms or '+inf'). Returns 1, or 0 where the schedule has changed.

local name, hash = ARGV[2], key('schedule', ARGV[2])
if redis.call('HGET', hash, 'revision') ~= ARGV[3] then
  return 0
end
if redis.call('HDEL', hash, 'paused') == 1 then
  redis.call('HSET', hash, 'updatedAt', whole(now_ms()))
  -- What is still being run since before the pause moves on by itself.
  if redis.call('EXISTS', key('firing', name)) == 0 then
    redis.call('ZADD', key('schedules'), ARGV[4], name)
  end
end
return 1
