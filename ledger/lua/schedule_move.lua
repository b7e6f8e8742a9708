-- Notes what became of a schedule's trigger, and moves on to the next one. Safe to repeat: a trigger is moved on from once.
-- ARGV: base, name, revision, asker, trigger (ms), next trigger (ms or '+inf'), result, message, batch that was made or ''
-- Returns 1, or 0 where somebody has moved on already, or the schedule has changed.

local name, hash = ARGV[2], key('schedule', ARGV[2])
if redis.call('GET', key('firing', name)) == ARGV[4] then
  redis.call('DEL', key('firing', name))
end
local score = redis.call('ZSCORE', key('schedules'), name)
if not score or tonumber(score) ~= tonumber(ARGV[5]) or redis.call('HGET', hash, 'revision') ~= ARGV[3] then
  return 0
end
redis.call('HSET', hash, 'lastTrigger', ARGV[5], 'lastAt', whole(now_ms()), 'lastResult', ARGV[7], 'lastMessage',
  cut(ARGV[8], HISTORY_TEXT))
if ARGV[9] ~= '' then
  redis.call('HSET', hash, 'made', ARGV[9])
end
redis.call('HDEL', hash, 'error')
redis.call('ZADD', key('schedules'), redis.call('HEXISTS', hash, 'paused') == 1 and '+inf' or ARGV[6], name)
return 1
