-- Batches, the newest first. ARGV: base, where the page before ended: time (ms; '' is the beginning) and batch id; how many.
-- Returns {time, id of the last one, or '' and '' where there are no more; {id, its hash as a flat list} ...}.

local time, last, limit = ARGV[2], ARGV[3], tonumber(ARGV[4])
local first = 0
if time ~= '' then
  if redis.call('ZSCORE', key('batches'), last) == time then
    first = redis.call('ZREVRANK', key('batches'), last) + 1
  else
    first = redis.call('ZCOUNT', key('batches'), '(' .. time, '+inf')
  end
end
local flat = redis.call('ZREVRANGE', key('batches'), first, first + limit, 'WITHSCORES')
local more = #flat > 2 * limit
local found = {'', ''}
for at = 1, math.min(#flat, 2 * limit), 2 do
  found[#found + 1] = {flat[at], redis.call('HGETALL', key('batch', flat[at]))}
  if more then
    found[1], found[2] = flat[at + 1], flat[at]
  end
end
return found
