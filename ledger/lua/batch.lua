-- Reads a batch. ARGV: base, batch id. Returns its hash as a flat list, empty where there is none.

return redis.call('HGETALL', key('batch', ARGV[2]))
