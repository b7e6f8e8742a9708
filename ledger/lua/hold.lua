-- Holds a batch: none of its jobs is sent any more, what is in flight ends as it ends. Or has it go on: then as many jobs may
-- fail again as it bears. Safe to repeat.
-- ARGV: base, batch id, 'person' (hold it), 'go on', or 'go on after failures' (unless a person holds it)
-- Returns 0 where there is no such batch, otherwise 1.

local batch, what = key('batch', ARGV[2]), ARGV[3]
local now = now_ms()
if redis.call('HEXISTS', batch, 'total') == 0 then
  return 0
end
local held = redis.call('HGET', batch, 'held')
if what == 'person' then
  redis.call('HSET', batch, 'held', what)
  if not held then
    redis.call('HSET', batch, 'heldAt', whole(now))
  end
elseif held and (held == 'failures' or what == 'go on') then
  redis.call('HDEL', batch, 'held', 'heldAt')
  redis.call('HSET', batch, 'forgiven', redis.call('HGET', batch, 'failed') or '0')
  release(ARGV[2], now)
end
return 1
