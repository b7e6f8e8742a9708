-- Takes up to `limit` due jobs for one attempt each. Safe to repeat: the same claim id gets the same jobs again.
-- ARGV: base, claim id, limit, lease (ms), worker, fingerprint of an API key or '' (then a token is needed),
--       first ('1' for a shift's first claim), probe (ms between single jobs while the account is blocked),
--       watching ('1' where the shift comes back in a moment, whatever it gets), longest wait (ms) for a refused API key,
--       age (ms) up to which a listing counts as one from before an attempt, age from which it is to be made again,
--       rest (ms) after a listing that could not be made, create calls a second that the account may make ('0' is any number)
-- Returns {why, wake, wait, lookup, {token, version, left, life}, {body ...},
--   {id, attempt, which of the bodies (from 1), tries, max attempts, waits, unique, choice, name} ...}
--   choice: '' or '0': the body is what is sent; otherwise it is a list of bodies, and this is which of them (from 1)
--   why: '' or why nothing (more) could be claimed: 'paused', 'blocked', 'token', 'listing', 'rate',
--        'version' (a newer launchq uses the ledger)
--   wait: ms until there may be something to claim; '' is until somebody acts
--   lookup: '1' where the instances should be listed now
--   left, life: ms for which the token is good, now and when it was stored; '' where that is unknown

local claim_id, limit, lease, worker, api_key = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]
local now = now_ms()

if ARGV[7] == '1' then
  redis.call('DEL', key('wake'))
end

local bodies, places = {}, {}

-- Jobs of one template have the same body, which is handed out once.
local function handed_out(id)
  local job = read_job(id, 'attempt', 'request', 'tries', 'maxAttempts', 'waits', 'unique', 'spot', 'choice', 'bodies', 'name')
  local body = job[8] and job[8] ~= '0' and job[9] or job[2] or ''
  if not places[body] then
    bodies[#bodies + 1] = body
    places[body] = whole(#bodies)
  end
  -- Version 1 of the ledger noted `spot`, and spot instances waited.
  return {id, job[1], places[body], job[3] or '0', job[4] or '', job[5] or job[7] or '', job[6] or '', job[8] or '', job[10]}
end

-- Which of a job's choices is sent from this lane: the last that may be used by now; those that share a lane take turns.
local function choice_in(lane, choices, chosen, attempt)
  local known, fitting = cjson.decode(choices), {}
  for at = 1, tonumber(chosen) do
    if known[at].lane == lane then
      fitting[#fitting + 1] = at - 1
    end
  end
  return whole(fitting[attempt % #fitting + 1])
end

-- While a shift with room keeps coming back, new jobs need no wake-up call.
if ARGV[9] == '1' and not outdated() then
  redis.call('SET', key('watch'), '1', 'PX', WATCH_MS)
else
  redis.call('DEL', key('watch'))
end

local token = api_key == '' and held_token(now) or {'', '', '', ''}

local before = redis.call('LRANGE', key('claim', claim_id), 0, -1)
if #before > 0 then
  local jobs = {}
  for _, pair in ipairs(before) do
    local attempt, id = string.match(pair, '^(%d+) (.*)$')
    local job = handed_out(id)
    if job[2] == attempt and redis.call('HGET', key('job', id), 'state') == 'submitting' then
      jobs[#jobs + 1] = job
    end
  end
  return {'', '0', '0', '', token, bodies, jobs}
end

if outdated() then
  return {'version', '0', '', '', token, {}, {}}
end
if api_key == '' and not has_token(now) then
  return {'token', '0', '', '', token, {}, {}}
elseif api_key ~= '' and next_use(api_key) > now then
  return {'blocked', '0', whole(next_use(api_key) - now), '', token, {}, {}}
end
local open, state, till, reason = account_state(now)
-- An account that cannot pay, or that a person has paused, can still be asked what it has; one that must wait waits with everything.
local lookup = (open or state ~= 'paused' or reason == 'person') and lookup_is_due(now) and '1' or ''
if not open then
  return {state, '0', till ~= '' and whole(till - now) or '', lookup, token, {}, {}}
end
local probing = state == 'blocked' and reason == 'balance'
if state == 'paused' then
  open_account()
end
local refused_key = api_key ~= '' and next_use(api_key) > 0
if probing or refused_key then
  -- One job finds out whether the account can pay, or the key is taken, again; the others wait for what it brings back.
  limit = math.min(limit, 1)
end

-- A job whose name is sent as it is needs a listing from before its attempt: what was there then cannot be its instance.
-- Where none can be had, the call is made all the same; only its instance cannot be told from others later.
local listing = redis.call('HMGET', key('listing'), 'at', 'failedAt', 'took')
local age = listing[1] and now - listing[1] or math.huge
local listing_rests = listing[2] and now - listing[2] < tonumber(ARGV[13])
local baseline = age <= tonumber(ARGV[11]) and listing[1] or ''

local asked = limit
local budget, budget_fills = budget_of(tonumber(ARGV[14]), now)
if budget then
  limit = math.min(limit, math.floor(budget))
end

local jobs, why = {}, ''

-- What room the batches have that came up, and how many jobs were put aside for want of it.
local ASIDE_AT_ONCE = 500
local rooms, aside = {}, 0

-- Takes one job of this lane, or puts it aside. False where exact names wait for a listing.
local function take(id, lane)
  if give_up(id, now) then
    return true
  end
  local job = read_job(id, 'attempt', 'unique', 'doubtful', 'waits', 'choices', 'chosen', 'batchId')
  local batch = job[7]
  if batch and rooms[batch] == nil then
    rooms[batch] = batch_room(batch) or math.huge
  end
  if batch and rooms[batch] <= 0 then
    set_aside(id, batch)
    aside = aside + 1
    return true
  end
  local set = {attempt = whole((tonumber(job[1]) or 0) + 1), worker = worker, reason = ''}
  if not job[2] then
    if baseline == '' and not listing_rests then
      why, lookup = 'listing', '1'
      return false
    elseif age > math.max(tonumber(ARGV[12]), 20 * (tonumber(listing[3]) or 0)) and not listing_rests then
      lookup = '1'
    end
    if not job[3] then
      -- As long as an earlier attempt may have bought an instance, what counts is the listing from before that one.
      set.since, set.baseline = whole(now), baseline
    end
  end
  if job[4] then
    set.epoch = redis.call('HGET', key('lane', lane), 'epoch') or '0'
  end
  if job[5] then
    set.lane, set.choice = lane, choice_in(lane, job[5], job[6], tonumber(set.attempt))
  end
  if move(id, 'claim', now, now + lease, set) then
    jobs[#jobs + 1] = handed_out(id)
    if batch then
      rooms[batch] = rooms[batch] - 1
    end
    redis.call('RPUSH', key('claim', claim_id), set.attempt .. ' ' .. id)
  else
    take_out_of_line(id, {lanes = {lane}})  -- somebody has deleted the job by hand: it must not be met again for ever
  end
  return true
end

-- Serves the lanes in turn, each with its share of the room, until the room or the lanes are used up.
local LANES_AT_ONCE = 256
line_up(now)
open_choices(now)
local lanes = redis.call('ZRANGEBYSCORE', key('lanes'), '-inf', now, 'LIMIT', 0, LANES_AT_ONCE)
while #lanes > 0 and #jobs < limit and why == '' and aside < ASIDE_AT_ONCE do
  local share, more = math.max(1, math.floor((limit - #jobs) / #lanes)), {}
  for _, lane in ipairs(lanes) do
    local first = redis.call('ZRANGE', key('ready', lane), 0, 0)[1]
    local waits = first and read_job(first, 'waits')[1]
    local room, before = math.min(share, limit - #jobs, first and lane_room(lane, waits, limit) or 0), #jobs
    for _, id in ipairs(room > 0 and redis.call('ZRANGE', key('ready', lane), 0, room - 1) or {}) do
      if not take(id, lane) then
        break
      end
    end
    if why ~= '' then
      break
    elseif room > 0 then
      serve_lane(lane, now)
      if #jobs > before and redis.call('HEXISTS', key('lane', lane), 'probeAt') == 1 then
        -- It was the probe: the next one is due when this one's answer, or the time of another probe, has come.
        serve_lane(lane, now + lease)
      else
        more[#more + 1] = lane
      end
    elseif first and #jobs < limit then
      serve_lane(lane, now + FULL_MS)  -- until then, unless a call of it ends before
    end
  end
  lanes = more
end
if budget then
  spend(budget, #jobs, now)
end
if lookup == '1' and redis.call('EXISTS', key('lookup')) == 1 then
  lookup = ''
end
if #jobs > 0 then
  redis.call('PEXPIREAT', key('claim', claim_id), whole(now + lease))
  if probing then
    redis.call('HSET', key('account'), 'until', whole(now + ARGV[8]))
  end
  if refused_key then
    put_off(api_key, tonumber(ARGV[10]), now)
  end
end

local wake, wait = 0, ''
local first = first_claim()
if first then
  wait = whole(math.max(0, first - now))
  if wait == '0' and limit < asked and #jobs >= limit then
    why, wait = #jobs == 0 and 'rate' or why, whole(one_more_in(budget, budget_fills))
  elseif wait == '0' and #jobs >= asked then
    redis.call('DEL', key('watch'))
    wake = wants_wake()
  end
end
if why == 'listing' and #jobs == 0 then
  -- Somebody is listing, or will be in a moment.
  wait = '50'
end
return {why, tostring(wake), wait, lookup, token, bodies, jobs}
