-- The account at a glance. ARGV: base.
-- Returns {now, account hash, token hash without its value, counts hash, {worker, last heard ...}, first due or ''}.

local now = now_ms()
local token = {}
for at, field in ipairs({'source', 'storedAt', 'expiresAt'}) do
  token[at] = redis.call('HGET', key('token'), field) or ''
end
token[4] = redis.call('HEXISTS', key('token'), 'value') == 1 and '1' or ''
local first = first_of('due')
return {
  whole(now), redis.call('HGETALL', key('account')), token, redis.call('HGETALL', key('counts')),
  redis.call('ZRANGE', key('workers'), 0, -1, 'WITHSCORES'), first and whole(first) or '',
}
