-- How it goes with the addresses that workers have. ARGV: base.
-- Returns for each {mark, when a worker last had it and the kinds that it is told ('1795479215711 a,b'), documents held for it,
--   its delivery hash as a flat list}.

local found, noted = {}, redis.call('HGETALL', key('notify'))
for at = 1, #noted, 2 do
  local mark = noted[at]
  found[#found + 1] = {
    mark, noted[at + 1], redis.call('HLEN', key('outbox', mark)), redis.call('HGETALL', key('delivery', mark)),
  }
end
return found
