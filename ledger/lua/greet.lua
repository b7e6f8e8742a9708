-- A worker begins: workers of an older launchq leave the ledger alone from now on. With credentials that nobody has
-- refused yet, the account is no longer shown as blocked for them.
-- ARGV: base, fingerprint of its credentials ('' is none). Returns 1 where the account was opened.

mark_version()
local account = redis.call('HMGET', key('account'), 'state', 'reason')
if account[1] == 'blocked' and account[2] == 'credentials' and ARGV[2] ~= ''
  and redis.call('HEXISTS', key('logins'), ARGV[2]) == 0 then
  open_account()
  return 1
end
return 0
