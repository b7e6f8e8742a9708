-- Blocks the account for want of a token. No job fails for it; claims stop until there is a token.
-- Safe to repeat. ARGV: base, message, asker ('' is nobody), '1' to try again when the next login may be, fingerprint
-- of the credentials that were refused ('' is none).
-- Returns 0 where a token has come in the meantime, otherwise 1.

local asker = ARGV[3]
local now = now_ms()
local account = key('account')
if asker ~= '' and redis.call('GET', key('login')) == asker then
  redis.call('DEL', key('login'))
end
local token = redis.call('HMGET', key('token'), 'value', 'expiresAt')
if token[1] and (not token[2] or tonumber(token[2]) > now) then
  return 0
end
local till = ''
if ARGV[4] == '1' then
  till = redis.call('HGET', account, 'nextLoginAt') or whole(now + 1000)
end
close_account('blocked', 'credentials', ARGV[2], till, now)
if ARGV[5] ~= '' then
  redis.call('HSET', account, 'refused', ARGV[5])
end
return 1
