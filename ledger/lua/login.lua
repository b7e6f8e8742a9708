-- Asks for the turn to log in: one login at a time for all workers, and with the same credentials ever fewer while
-- they bring nothing.
-- Not repeated blindly: the lock is taken in the asker's name, and the same asker gets the same answer again.
-- ARGV: base, asker, how long the turn lasts unless it is kept (ms), longest wait between logins (ms), version of the token
--       that the asker holds ('' is none), fingerprint of the asker's credentials
-- Returns {'go' | 'wait' | 'fresh', ms to wait}. 'fresh': another token is there already.

local asker, lasts = ARGV[2], tonumber(ARGV[3])
local now = now_ms()
local credentials = ARGV[6]
if has_token(now) and redis.call('HGET', key('token'), 'version') ~= ARGV[5] then
  return {'fresh', '0'}
end
local holder = redis.call('GET', key('login'))
if holder == asker then
  return {'go', '0'}
end
if holder then
  return {'wait', '50'}
end
local next_at = next_use(credentials)
if next_at > now then
  return {'wait', whole(next_at - now)}
end
put_off(credentials, tonumber(ARGV[4]), now)
redis.call('SET', key('login'), asker, 'PX', lasts)
return {'go', '0'}
