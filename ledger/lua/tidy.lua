-- Forgets jobs that ended longer ago than the retention, with all that belongs to them, and workers and addresses long unheard.
-- A job of a batch stays until the whole batch has ended that long ago: submitting it again must find every entry.
-- ARGV: base, retention (ms), how many at the most. Returns how many jobs were forgotten.

local DAY = 86400000
local now = now_ms()
local old = now - ARGV[2]
redis.call('ZREMRANGEBYSCORE', key('workers'), '-inf', now - DAY)
forget_addresses(now)

-- When a batch ended; nil as long as it has not.
local function ended_at(batch)
  local counts = redis.call('HGETALL', key('batch', batch))
  for at = 1, #counts, 2 do
    if MOVES[counts[at]] and not ENDS[counts[at]] and tonumber(counts[at + 1]) > 0 then
      return nil
    end
  end
  return tonumber(redis.call('HGET', key('batch', batch), 'endedAt') or '0')
end

local forgotten = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('ended'), '-inf', old, 'LIMIT', 0, tonumber(ARGV[3]))) do
  local job = read_job(id, 'state', 'batchId', 'key', 'entry', 'instanceId', 'name', 'unique')
  local batch = job[2]
  local ended = batch and ended_at(batch)
  if batch and (not ended or ended > old) then
    -- Looked at again when its batch may go, and with the rest of it.
    redis.call('ZADD', key('ended'), ended or now, id)
  else
    if job[1] then
      count(job[1], batch, -1)
      if not job[7] then
        count_names(job[6], job[1])
      end
    end
    if job[3] and redis.call('GET', key('key', job[3])) == id then
      redis.call('DEL', key('key', job[3]))
    end
    if batch then
      redis.call('HDEL', key('entries', batch), job[4] or '')
      if redis.call('HINCRBY', key('batch', batch), 'total', -1) <= 0 then
        redis.call('DEL', key('batch', batch), key('held', batch))
        redis.call('ZREM', key('batches'), batch)
      end
    end
    local instances = {job[5] or nil}
    for _, line in ipairs(redis.call('LRANGE', key('history', id), 0, -1)) do
      local entry = cjson.decode(line)
      if entry.event == 'surplus' then
        instances[#instances + 1] = entry.instanceId
      end
    end
    for _, instance in ipairs(instances) do
      -- Without an owner, but not new to anybody: no job that has been in doubt since before takes it for its own.
      redis.call('HDEL', key('owners'), instance)
      redis.call('ZADD', key('seen'), 'XX', 0, instance)
    end
    local shared = redis.call('HGET', key('job', id), 'template')
    if shared and redis.call('HINCRBY', key('template', shared), 'jobs', -1) <= 0 then
      redis.call('DEL', key('template', shared))
    end
    redis.call('DEL', key('job', id), key('history', id))
    redis.call('ZREM', key('ended'), id)
    redis.call('ZREM', key('changed'), id)
    forgotten = forgotten + 1
  end
end
return forgotten
