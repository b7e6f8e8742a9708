-- Forgets a schedule; its batches stay. ARGV: base, name. Returns 1, or 0 where there is none.
-- Safe to repeat, but for the answer: what was removed is there no more.

redis.call('DEL', key('schedule', ARGV[2]), key('launches', ARGV[2]), key('firing', ARGV[2]))
return redis.call('ZREM', key('schedules'), ARGV[2])
