-- What a lookup says about jobs whose last attempt has an unknown end. Each names the attempt that was looked up, and is
-- left alone unless that is still the job's last and still unknown; and one asker's list counts once. So this is safe to
-- repeat.
-- ARGV: base, asker, verify delays, max attempts of jobs without their own, why the list could not be read ('' if it was
--       read to its end),
--       then for each job: id, attempt, name sent, delay of a next attempt (ms), number of instances of that name, their ids
-- Returns for each job its state, or 'stale'; nothing where the asker's turn is over, or a newer launchq uses the ledger.
--
-- An instance is the job's where no other job owns it and the name carries the job's tag, or it was not there in the last
-- listing before the first attempt that may have created it. Jobs that send one and the same name are interchangeable:
-- each may adopt any of their instances, but only while none of them may still hear of it from its own call.

local asker, delays, max_attempts, flaw = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local AGAIN_MS = 1000
local now = now_ms()
if outdated() or redis.call('GET', key('lookup')) ~= asker then
  return {}
end
local at, settled = lookups_at(delays)

local function advice(id, name)
  return '. Look for ' .. name .. ' in the console, then tell: launchq resolve ' .. id
    .. ' --created INSTANCE_ID, or --not-created'
end

-- Those of the found instances that may be the job's.
local function candidates(id, job, found)
  local mine = {}
  for _, instance in ipairs(found) do
    local owner = redis.call('HGET', key('owners'), instance)
    local seen = not job.unique and tonumber(redis.call('ZSCORE', key('seen'), instance) or '')
    if owner == id or (not owner and not (seen and seen < job.since)) then
      mine[#mine + 1] = instance
    end
  end
  return mine
end

local function look_again(id, job, when, message)
  redis.call('HSET', key('job', id), 'lookups', whole(job.lookups), 'absences', whole(job.absences), 'dueAt', whole(when),
    'lookedUpBy', asker)
  redis.call('ZADD', key('leases'), when, id)
  if message then
    note(id, now, {event = 'lookup', state = 'verifying', attempt = job.attempt, message = message, by = 'lookup'})
  end
  return 'verifying'
end

local function next_lookup(job)
  local when = job.doubted_at + (at[job.lookups + 1] or 0)
  if job.lookups + 1 >= settled then
    -- The one that may let the next attempt go: not before every request of this one must have arrived.
    when = math.max(when, job.lease_end)
  end
  return when > now and when or now + at[1]
end

local function park(id, name, message)
  return move(id, 'park', now, now, {message = message .. advice(id, name)}, 'lookup')
end

local function none_found(id, job, delay)
  job.lookups, job.absences = job.lookups + 1, job.absences + 1
  local told = 'no instance of it in the list of instances'
  if job.lookups < settled or now < job.lease_end or job.absences < math.min(2, settled) then
    return look_again(id, job, next_lookup(job), told)
  end
  local message = job.message .. '; looked up ' .. whole(job.absences) .. ' times: ' .. told
  if job.tries >= job.max_attempts and not job.cancelled then
    return move(id, 'fail', now, now, {message = message}, 'lookup')
  end
  local new = move(id, 'defer', now, now + delay, {message = message, reason = 'transient'}, 'lookup')
  return job.cancelled and move(id, 'cancel', now, now, {reason = ''}, 'lookup') or give_up(id, now) or new
end

local function not_read(id, job, name)
  job.lookups = job.lookups + 1
  local told = 'the list of instances could not be read: ' .. flaw
  if job.lookups < #at then
    return look_again(id, job, next_lookup(job), told)
  end
  return park(id, name, job.message .. '; looked up ' .. whole(job.lookups) .. ' times, ' .. told)
end

local function found_some(id, job, name, mine)
  local one_of = 1
  if not job.unique then
    if redis.call('HEXISTS', key('flying'), name) == 1 then
      return look_again(id, job, now + AGAIN_MS)
    elseif job.baseline == '' then
      return park(id, name, job.message .. '; the list shows ' .. table.concat(mine, ', ')
        .. ' under its name, and there is no listing from before the attempt to tell new from old')
    end
    one_of = tonumber(redis.call('HGET', key('doubted'), name) or '1')
  end
  if #mine > one_of then
    return park(id, name, job.message .. '; the list shows ' .. whole(#mine) .. ' instances that may be its own: '
      .. table.concat(mine, ', '))
  end
  own(mine[1], id, now)
  local new = move(id, 'create', now, now, {instanceId = mine[1]}, 'lookup')
  settle_doubt(id)
  return new
end

local states = {}
local place = 6
while place <= #ARGV do
  local id, attempt, name, delay, many = ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3], tonumber(ARGV[place + 4])
  local found = {}
  for one = 1, many do
    found[one] = ARGV[place + 4 + one]
  end
  place = place + 5 + many
  local kept = read_job(id, 'state', 'attempt', 'unique', 'since', 'baseline', 'doubtedAt', 'leaseEnd',
    'lookups', 'absences', 'tries', 'maxAttempts', 'cancelRequested', 'message', 'lookedUpBy')
  if kept[1] ~= 'verifying' or kept[2] ~= attempt then
    states[#states + 1] = 'stale'
  elseif kept[14] == asker then
    states[#states + 1] = kept[1]
  else
    local job = {
      attempt = attempt, unique = kept[3], since = tonumber(kept[4] or '0'), baseline = kept[5] or '',
      doubted_at = tonumber(kept[6]), lease_end = tonumber(kept[7]), lookups = tonumber(kept[8]),
      absences = tonumber(kept[9]), tries = tonumber(kept[10]) or 0, max_attempts = tonumber(kept[11]) or max_attempts,
      cancelled = kept[12], message = kept[13] or '',
    }
    local mine = candidates(id, job, found)
    local state
    if flaw ~= '' then
      state = not_read(id, job, name)
    elseif #mine == 0 then
      state = none_found(id, job, delay)
    else
      state = found_some(id, job, name, mine)
    end
    states[#states + 1] = state
  end
end
return states
