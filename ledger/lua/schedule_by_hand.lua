-- Notes that a batch of a schedule was made by hand. Safe to repeat.
-- ARGV: base, name, revision, when (ms), batch. Returns 1, or 0 where the schedule has changed.

local hash = key('schedule', ARGV[2])
if redis.call('HGET', hash, 'revision') ~= ARGV[3] then
  return 0
end
redis.call('HSET', hash, 'lastTrigger', ARGV[4], 'lastAt', whole(now_ms()), 'lastResult', 'ran', 'lastMessage', 'by hand',
  'made', ARGV[5])
return 1
