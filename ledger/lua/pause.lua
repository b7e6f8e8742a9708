-- A person pauses the account: nothing is claimed until one lets it go on. Calls in flight end as they end, and lookups go on.
-- Safe to repeat. ARGV: base, who ('' lets it go on). Returns 1 where that is new, otherwise 0.

local account, who = key('account'), ARGV[2]
if who == '' then
  redis.call('HDEL', account, 'pausedAt')
  return redis.call('HDEL', account, 'pausedBy')
elseif redis.call('HEXISTS', account, 'pausedBy') == 1 then
  return 0
end
redis.call('HSET', account, 'pausedBy', who, 'pausedAt', whole(now_ms()))
return 1
