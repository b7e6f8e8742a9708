-- Takes jobs back. What is being submitted ends as it ends; it is only not tried again.
-- Safe to repeat. ARGV: base, job ids. Returns for each {state, what was done}:
--   'cancelled', 'requested' (while a call is under way), 'ended' (too late) or 'absent'.
-- What is uncertain has ended too, but its attempt's late answer must not have it tried again. What is verified may turn out
-- to have an instance; if not, it is not tried again either.

local now = now_ms()
local results = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  local state = redis.call('HGET', key('job', id), 'state')
  local done
  if not state then
    state, done = '', 'absent'
  elseif state == 'cancelled' then
    done = 'cancelled'
  elseif ENDS[state] then
    done = 'ended'
    if MOVES[state].defer then
      -- Its own attempt may still say that nothing was sent: then it is not to be tried again either.
      redis.call('HSET', key('job', id), 'cancelRequested', '1')
    end
  else
    local new = move(id, 'cancel', now, now, {reason = ''})
    if new then
      state, done = new, 'cancelled'
    else
      redis.call('HSET', key('job', id), 'cancelRequested', '1')
      done = 'requested'
    end
  end
  results[#results + 1] = {state, done}
end
return results
