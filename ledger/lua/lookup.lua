-- Asks for the turn to list the account's instances: one lookup at a time for all workers, and a short rest after each, so
-- that what falls due close together is looked up together.
-- Safe to repeat: the turn is taken in the asker's name.
-- ARGV: base, asker, how long the turn lasts unless it is kept (ms), limit, verify delays,
--       fingerprint of an API key or '' (then the token is handed out)
-- Returns {'go' | 'wait' (another has the turn, there is no token, or a newer launchq uses the ledger), {token, version, left, life}, {id, attempt, name, tries, max attempts, unique} ...}:
--   the jobs whose lookup is due

local asker, lasts, limit, delays = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local now = now_ms()
if outdated() or (ARGV[6] == '' and not has_token(now)) then
  return {'wait', {'', '', '', ''}, {}}
end
if redis.call('GET', key('lookup')) ~= asker and not redis.call('SET', key('lookup'), asker, 'NX', 'PX', lasts) then
  return {'wait', {'', '', '', ''}, {}}
end
expire_lost(now, delays)
local jobs = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('leases'), '-inf', now, 'LIMIT', 0, limit)) do
  local job = read_job(id, 'state', 'attempt', 'name', 'tries', 'maxAttempts', 'unique')
  if job[1] == 'verifying' then
    jobs[#jobs + 1] = {id, job[2], job[3], job[4] or '0', job[5] or '', job[6] or ''}
  end
end
return {'go', ARGV[6] == '' and held_token(now) or {'', '', '', ''}, jobs}
