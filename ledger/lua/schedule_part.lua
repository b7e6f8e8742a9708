-- Reads one part of a schedule's entries, and keeps the turn of whoever is running it.
-- ARGV: base, name, revision, index, asker ('' needs no turn), its trigger (ms), how long the turn lasts from now (ms)
-- Returns the part, or nil where the schedule has changed, the turn is over or the trigger is done.

local name, asker = ARGV[2], ARGV[5]
if redis.call('HGET', key('schedule', name), 'revision') ~= ARGV[3] then
  return false
end
if asker ~= '' then
  if redis.call('GET', key('firing', name)) ~= asker
    or tonumber(redis.call('ZSCORE', key('schedules'), name)) ~= tonumber(ARGV[6]) then
    return false
  end
  redis.call('PEXPIRE', key('firing', name), ARGV[7])
end
return redis.call('LINDEX', key('launches', name), ARGV[4])
