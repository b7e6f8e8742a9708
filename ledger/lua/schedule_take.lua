-- Takes the turn to run one schedule whose trigger is due, the one with the fewest jobs: a large one holds up no other.
-- The turn only saves work. That a trigger makes one batch rests on the batch's name and on schedule_move.lua.
-- Safe to repeat: the turn is taken in the asker's name.
-- ARGV: base, asker, how long the turn lasts unless it is kept (ms), names that the asker cannot run now
-- Returns {now, ms until the next trigger or '', name, trigger (ms), its hash as a flat list, the batch made before if it
-- is not done or ''}, without the last four where nothing is to be run; {version} where a newer launchq uses the ledger.

local asker, lasts = ARGV[2], ARGV[3]
local now = now_ms()
if outdated() then
  return {outdated()}
end
local without = {}
for at = 4, #ARGV do
  without[ARGV[at]] = true
end
local due = redis.call('ZRANGEBYSCORE', key('schedules'), '-inf', whole(now), 'WITHSCORES')
local chosen, trigger, fewest
for at = 1, #due, 2 do
  local holder = not without[due[at]] and redis.call('GET', key('firing', due[at]))
  if not without[due[at]] and (not holder or holder == asker) then
    local jobs = tonumber(redis.call('HGET', key('schedule', due[at]), 'jobs'))
    if not fewest or jobs < fewest then
      chosen, trigger, fewest = due[at], due[at + 1], jobs
    end
  end
end
local coming = redis.call('ZRANGEBYSCORE', key('schedules'), '(' .. whole(now), '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
local wait = coming and whole(coming - now) or ''
if not chosen then
  return {whole(now), wait}
end
redis.call('SET', key('firing', chosen), asker, 'PX', lasts)
local made = redis.call('HGET', key('schedule', chosen), 'made')
local counts = made and redis.call('HGETALL', key('batch', made)) or {}
local open = 0
for at = 1, #counts, 2 do
  if MOVES[counts[at]] and not ENDS[counts[at]] then
    open = open + tonumber(counts[at + 1])
  end
end
return {whole(now), wait, chosen, trigger, redis.call('HGETALL', key('schedule', chosen)), open > 0 and made or ''}
