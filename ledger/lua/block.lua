-- Shows that the account is blocked for want of a token. No job fails for it; claims stop until there is a token.
-- Safe to repeat. ARGV: base, message, asker (who holds the login lock, to let go of; '' is nobody),
--       fingerprint of the credentials that were refused or wait for their next login ('' is none), '1' if refused now,
--       longest wait (ms) until a refused API key is tried again ('' for a login, which has put off the next one itself)
-- Returns 0 where a token has come in the meantime, otherwise 1.

local asker, credentials, refused = ARGV[3], ARGV[4], ARGV[5] == '1'
local now = now_ms()
if asker ~= '' and redis.call('GET', key('login')) == asker then
  redis.call('DEL', key('login'))
end
if ARGV[6] == '' and has_token(now) then
  return 0
end
local account = redis.call('HMGET', key('account'), 'state', 'reason')
-- What the API said when it refused is worth more than that we wait.
if refused or account[1] ~= 'blocked' or account[2] ~= 'credentials' then
  if ARGV[6] ~= '' and next_use(credentials) <= now then
    put_off(credentials, tonumber(ARGV[6]), now)
  end
  local till = credentials ~= '' and redis.call('HGET', key('logins'), credentials .. ':next') or ''
  close_account('blocked', 'credentials', ARGV[2], till, now)
end
return 1
