-- Notes what the catalogue said. A lane that it shows empty is not probed yet, but now and then all the same: it may be wrong.
-- ARGV: base, 'read' or why it could not be read, ms until it may be read again (for each failure in a row twice as long),
--       the most of that, how many probes in a row are put off, then for each lane without stock: its name, and for how long (ms)
-- Returns how many probes were put off.

local why, rest, most, in_a_row = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now = now_ms()
if why == 'read' then
  redis.call('HDEL', key('stock'), 'failures', 'message')
else
  local failures = redis.call('HINCRBY', key('stock'), 'failures', 1)
  rest = math.min(most, rest * 2 ^ math.min(failures - 1, 20))
  redis.call('HSET', key('stock'), 'message', cut(why, HISTORY_TEXT))
end
redis.call('HSET', key('stock'), 'nextAt', whole(now + rest))
redis.call('PEXPIRE', key('stock'), math.max(LANE_KEPT_MS, 2 * rest))
local put_off = 0
for at = 6, #ARGV, 2 do
  local lane, wait = ARGV[at], tonumber(ARGV[at + 1])
  local held = redis.call('HMGET', key('lane', lane), 'probeAt', 'skipped', 'flying')
  -- A call that is under way says more than the catalogue.
  if held[1] and (tonumber(held[2]) or 0) < in_a_row and (tonumber(held[3]) or 0) < 1 then
    local probe_at = math.max(now, tonumber(held[1])) + wait
    redis.call('HSET', key('lane', lane), 'probeAt', whole(probe_at), 'emptyAt', whole(now))
    redis.call('HINCRBY', key('lane', lane), 'skipped', 1)
    redis.call('PEXPIRE', key('lane', lane), math.max(LANE_KEPT_MS, 2 * wait))
    serve_lane(lane, probe_at)
    put_off = put_off + 1
  end
end
return put_off
