-- Stores a recurring schedule, or one in the place of another: what is known of the older one's runs, and whether it is paused, stays.
-- Safe to repeat: a revision is stored once.
-- ARGV: base, name, revision that it replaces ('' where there is none), its revision, next trigger (ms or '+inf'),
--       number of texts that are fields, the fields and their values, then the parts of its entries
-- Returns 1, or 0 where there is another revision by now.

local name, seen, revision, first, fields = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local hash = key('schedule', name)
local old = redis.call('HGET', hash, 'revision')
if old == revision then
  return 1
elseif (old or '') ~= seen then
  return 0
end
mark_version()
local now = whole(now_ms())
redis.call('HSET', hash, 'revision', revision, 'updatedAt', now)
redis.call('HSETNX', hash, 'createdAt', now)
redis.call('HDEL', hash, 'error')
for at = 7, 6 + fields, 2 do
  redis.call('HSET', hash, ARGV[at], ARGV[at + 1])
end
redis.call('DEL', key('launches', name), key('firing', name))
for at = 7 + fields, #ARGV do
  redis.call('RPUSH', key('launches', name), ARGV[at])
end
redis.call('ZADD', key('schedules'), redis.call('HEXISTS', hash, 'paused') == 1 and '+inf' or first, name)
return 1
