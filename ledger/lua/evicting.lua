-- Closes the account while Redis would throw keys away when it is full (what it forgets may be bought again), and opens
-- it when Redis no longer would. Safe to repeat.
-- ARGV: base, why in plain words ('' is: it throws nothing away). Returns 1 where that is new, otherwise 0.

local reason = redis.call('HGET', key('account'), 'reason')
if ARGV[2] ~= '' and reason ~= 'evicting' then
  close_account('blocked', 'evicting', ARGV[2], '', now_ms())
  return 1
elseif ARGV[2] == '' and reason == 'evicting' then
  open_account()
  return 1
end
return 0
