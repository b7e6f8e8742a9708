-- Makes jobs that ended without an instance due again, with a fresh budget of tries.
-- Safe to repeat: the same act id does it once. ARGV: base, act id, job ids.
-- Returns {wake, {state, what was done} ...}: 'rearmed', 'refused' (its state has no such move) or 'absent'.

local act = ARGV[2]
local now = now_ms()
local results, rearmed = {}, false
for at = 3, #ARGV do
  local id = ARGV[at]
  local job = read_job(id, 'state', 'rearmedBy', 'category', 'choices')
  local state, done = job[1] or '', 'refused'
  if not job[1] then
    done = 'absent'
  elseif job[2] == act then
    done = 'rearmed'
  elseif job[3] ~= 'invalid' then
    -- It takes its place behind those that wait already, and begins with its first choice again.
    local set = {tries = '0', rearmedBy = act, reason = '', arrived = whole(now)}
    if job[4] then
      set.chosen, set.choice = '1', '0'
    end
    local new = move(id, 'rearm', now, now, set)
    if new then
      redis.call('HDEL', key('job', id), 'cancelRequested', 'message', 'category')
      local patience = read_job(id, 'patience')[1]
      if patience then
        redis.call('HSET', key('job', id), 'until', whole(now + patience))
        redis.call('ZADD', key('deadlines'), now + patience, id)
      end
      state, done, rearmed = new, 'rearmed', true
    end
  end
  results[#results + 1] = {state, done}
end
return {rearmed and wants_wake() or 0, results}
