-- A worker begins. Other credentials than the refused ones (or the first ones at all) are tried at once.
-- ARGV: base, fingerprint of its credentials ('' is none). Returns 1 where the account was opened.

local account = redis.call('HMGET', key('account'), 'state', 'reason', 'refused', 'until')
if ARGV[2] ~= '' and account[1] == 'blocked' and account[2] == 'credentials' and account[3] ~= ARGV[2] then
  redis.call('HDEL', key('account'), 'logins', 'nextLoginAt')
  open_account()
  return 1
end
return 0
