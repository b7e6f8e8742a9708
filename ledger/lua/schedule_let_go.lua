-- Gives back a turn to run a schedule, whose trigger stays due, and notes why it could not be run. Safe to repeat.
-- ARGV: base, name, revision, asker, trigger (ms), error ('' is none). Returns 1 where the error was noted.

local name, hash = ARGV[2], key('schedule', ARGV[2])
if redis.call('GET', key('firing', name)) == ARGV[4] then
  redis.call('DEL', key('firing', name))
end
local score = redis.call('ZSCORE', key('schedules'), name)
if ARGV[6] == '' or not score or tonumber(score) ~= tonumber(ARGV[5])
  or redis.call('HGET', hash, 'revision') ~= ARGV[3] then
  return 0
end
redis.call('HSET', hash, 'error', cut(ARGV[6], HISTORY_TEXT))
return 1
