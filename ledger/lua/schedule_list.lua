-- Reads recurring schedules, those with the next trigger first.
-- ARGV: base, names (none: all). Returns for each that there is {name, next trigger (ms or 'inf'), its hash as a flat list}.

local names = {}
for at = 2, #ARGV do
  names[#names + 1] = ARGV[at]
end
if #names == 0 then
  names = redis.call('ZRANGE', key('schedules'), 0, -1)
end
local found = {}
for _, name in ipairs(names) do
  local score = redis.call('ZSCORE', key('schedules'), name)
  if score then
    found[#found + 1] = {name, score, redis.call('HGETALL', key('schedule', name))}
  end
end
return found
