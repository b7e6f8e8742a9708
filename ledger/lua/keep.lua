-- Keeps a turn that its asker still has; one that is over is not taken again. Safe to repeat.
-- ARGV: base, which ('lookup' or 'login'), asker, how long it lasts from now (ms). Returns 1, or 0 where it is over.

if redis.call('GET', key(ARGV[2])) ~= ARGV[3] then
  return 0
end
return redis.call('PEXPIRE', key(ARGV[2]), ARGV[4])
