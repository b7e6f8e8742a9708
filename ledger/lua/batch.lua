-- Reads a batch, after a look at leases that ran out: so that it ends also while no worker runs.
-- ARGV: base, batch id. Returns its hash as a flat list, empty where there is none.

if tonumber(redis.call('HGET', key('batch', ARGV[2]), 'submitting') or '0') > 0 then
  expire_lost(now_ms())
end
return redis.call('HGETALL', key('batch', ARGV[2]))
