-- A person says what happened to an uncertain job. Safe to repeat: the same again changes nothing.
-- ARGV: base, id, instance id that was created ('' is none), who, why
-- Returns {what, state or the job that owns the instance}: 'resolved', 'refused' (not uncertain), 'owned' or 'absent'.

local id, instance, who, why = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = now_ms()
local job = redis.call('HMGET', key('job', id), 'state', 'instanceId', 'resolved', 'message')
if not job[1] then
  return {'absent', ''}
end
local resolved = instance == '' and 'not created' or instance
if job[3] == resolved and job[1] == (instance == '' and 'failed' or 'succeeded') then
  return {'resolved', job[1]}
end
if job[1] ~= 'uncertain' then
  return {'refused', job[1]}
end
local set = {resolved = resolved, resolvedBy = who, resolvedAt = whole(now)}
if instance == '' then
  set.message = who .. ' says that no instance was created' .. (why ~= '' and ': ' .. why or '')
  set.category = 'unknown'
  local new = move(id, 'fail', now, now, set, who)
  -- What came before is settled: a later attempt is compared with a listing of its own.
  redis.call('HDEL', key('job', id), 'doubtful')
  return {'resolved', new}
end
local owner = redis.call('HGET', key('owners'), instance)
if owner and owner ~= id then
  return {'owned', owner}
end
own(instance, id, now)
set.instanceId = instance
local new = move(id, 'create', now, now, set, who)
if why ~= '' then
  note(id, now, {event = 'reason', state = new, message = why, by = who})
end
settle_doubt(id)
return {'resolved', new}
