-- Keeps a token for all workers and opens an account that was blocked for want of one.
-- Safe to repeat. ARGV: base, token, life (ms from now) or '', expiry (ms since 1970) or '', source, adopt, asker, credentials
--   adopt: fingerprint of a configured token: keep it only if it is another than the one adopted last; '' is always
--   asker: who holds the login lock, to let go of; '' is nobody
--   credentials: fingerprint of those that made it; '' is none
-- Returns 1, or 0 where a configured token had been adopted before.

local token, life, expiry, source, adopt, asker = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local now = now_ms()
local account = key('account')
if adopt ~= '' then
  if redis.call('HGET', account, 'adopted') == adopt then
    return 0
  end
  redis.call('HSET', account, 'adopted', adopt)
end
if life ~= '' then
  expiry = whole(now + life)
end
redis.call('DEL', key('token'))
redis.call('HSET', key('token'), 'value', token, 'source', source, 'storedAt', whole(now),
  'version', whole(redis.call('HINCRBY', account, 'tokens', 1)))
if expiry ~= '' then
  redis.call('HSET', key('token'), 'expiresAt', expiry)
end
if ARGV[8] ~= '' then
  redis.call('HSET', key('token'), 'credentials', ARGV[8])
end
if redis.call('HGET', account, 'reason') == 'credentials' then
  open_account()
end
if asker ~= '' and redis.call('GET', key('login')) == asker then
  redis.call('DEL', key('login'))
end
return 1
