-- Notes which instances a listing showed, with the time at which each was first seen; and, at the listing's end, that it
-- was made or could not be made. Safe to repeat.
-- ARGV: base, asker, '' (more follows), 'whole' (this was its end), 'failed' or 'given up', how long it took (ms),
--       rest (ms) until the next turn, then the ids of instances
-- Returns 1, or 0 where the asker's turn is over.

local now = now_ms()
if redis.call('GET', key('lookup')) ~= ARGV[2] then
  return 0
end
for at = 6, #ARGV do
  redis.call('ZADD', key('seen'), 'NX', now, ARGV[at])
end
if ARGV[3] == 'whole' then
  redis.call('HSET', key('listing'), 'at', whole(now), 'took', ARGV[4])
  redis.call('HDEL', key('listing'), 'failedAt')
elseif ARGV[3] == 'failed' then
  redis.call('HSET', key('listing'), 'failedAt', whole(now))
end
if ARGV[3] ~= '' then
  redis.call('PEXPIRE', key('lookup'), ARGV[5])
end
return 1
