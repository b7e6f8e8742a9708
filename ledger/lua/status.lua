-- The account at a glance. ARGV: base.
-- Returns {now, account hash, token hash without its value, counts hash, {worker, last heard ...}, first due or '',
--   {lane, jobs that are due in it, width or '', calls in flight, probed next (ms) or '', why or '', sold out since (ms) or '',
--    when the catalogue showed none (ms) or ''} ...}.

local LANES_SHOWN = 100
local now = now_ms()
local token = {}
for at, field in ipairs({'source', 'storedAt', 'expiresAt'}) do
  token[at] = redis.call('HGET', key('token'), field) or ''
end
token[4] = redis.call('HEXISTS', key('token'), 'value') == 1 and '1' or ''
local lanes = {}
for _, lane in ipairs(redis.call('ZRANGE', key('lanes'), 0, LANES_SHOWN - 1)) do
  local held = redis.call('HMGET', key('lane', lane), 'width', 'flying', 'probeAt', 'message', 'since', 'emptyAt')
  lanes[#lanes + 1] = {lane, redis.call('ZCARD', key('ready', lane)), held[1] or '', held[2] or '0', held[3] or '',
    held[4] or '', held[5] or '', held[6] or ''}
end
local first = first_claim()
return {
  whole(now), redis.call('HGETALL', key('account')), token, redis.call('HGETALL', key('counts')),
  redis.call('ZRANGE', key('workers'), 0, -1, 'WITHSCORES'), first and whole(first) or '', lanes,
}
