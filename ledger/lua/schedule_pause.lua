-- Pauses a schedule. A trigger that is due already stays due: whoever has begun to run it ends it, otherwise it is skipped.
-- Safe to repeat. ARGV: base, name, revision. Returns 1, or 0 where the schedule has changed.

local name, hash, now = ARGV[2], key('schedule', ARGV[2]), now_ms()
if redis.call('HGET', hash, 'revision') ~= ARGV[3] then
  return 0
end
if redis.call('HSETNX', hash, 'paused', '1') == 1 then
  redis.call('HSET', hash, 'updatedAt', whole(now))
end
if tonumber(redis.call('ZSCORE', key('schedules'), name)) > now then
  redis.call('ZADD', key('schedules'), '+inf', name)
end
return 1
