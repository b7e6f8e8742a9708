-- Takes the turn to read the catalogue, when a probe of a sold-out lane is near. One reads for all workers and lanes.
-- Safe to repeat: an answer that is lost costs one reading.
-- ARGV: base, how long before a probe it is read (ms), how far it looks ahead (ms), how long the turn lasts (ms),
--       create calls a second that the account may make ('0' is any number): the reading counts as one,
--       and is not made while there is none to spare
-- Returns {ms until it is to be asked again ('' is whenever), the sold-out lanes whose probes are near ...}; lanes come with '0' alone.

local lead, window, lasts = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
if outdated() or not account_state(now) then
  return {''}
end
local first, near = nil, {'0'}
for _, lane in ipairs(redis.call('ZRANGE', key('lanes'), 0, -1)) do
  local probe_at = tonumber(redis.call('HGET', key('lane', lane), 'probeAt'))
  if probe_at then
    first = math.min(first or probe_at, probe_at)
    if probe_at <= now + window then
      near[#near + 1] = lane
    end
  end
end
if not first then
  return {''}
end
local look = math.max(first - lead, tonumber(redis.call('HGET', key('stock'), 'nextAt') or '0'))
if look > now then
  return {whole(look - now)}
end
local budget, fills = budget_of(tonumber(ARGV[5]), now)
if budget and budget < 1 then
  return {whole(one_more_in(budget, fills))}  -- launches go before readings
elseif budget then
  spend(budget, 1, now)
end
redis.call('HSET', key('stock'), 'nextAt', whole(now + lasts))
redis.call('PEXPIRE', key('stock'), LANE_KEPT_MS)
return near
