-- Writes down what came of a message. Safe to repeat: a message that is done is not there any more, and one that is put off is
-- its asker's no longer.
-- ARGV: base, asker, mark, id, 'sent', 'later' or 'refused', what was said, how long to wait before the next try (ms),
--       age (ms) at which a message is given up, rest (ms) before the next message to this address
-- Returns 'sent', 'later', 'refused' or 'given up'; with ' again' behind it where that was said of the address already; or ''
-- where somebody else has the message, or has sent it.

local asker, mark, id, outcome, text = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local now = now_ms()
local delivery = key('delivery', mark)
local held = redis.call('HMGET', delivery, 'id', 'asker', 'takenAt', 'error', 'errorAt', 'sentAt')
if held[1] ~= id or (outcome ~= 'sent' and held[2] ~= asker) then
  return ''
end
if outcome == 'later' and now - held[3] >= tonumber(ARGV[8]) then
  outcome = 'given up'
end
redis.call('HDEL', delivery, 'asker')
redis.call('HSET', delivery, 'leaseEnd', whole(now + ARGV[9]))
if outcome == 'later' then
  redis.call('HSET', delivery, 'nextAt', whole(now + ARGV[7]))
else
  redis.call('HDEL', delivery, 'id', 'documents', 'takenAt', 'tries', 'nextAt')
end
if outcome == 'sent' then
  redis.call('HSET', delivery, 'sentAt', whole(now))
  redis.call('HINCRBY', delivery, 'sent', 1)
  return outcome
end
if outcome ~= 'later' then
  redis.call('HINCRBY', delivery, 'lost', 1)
end
redis.call('HSET', delivery, 'error', text, 'errorAt', whole(now))
local known = held[4] == text and tonumber(held[5] or '0') > tonumber(held[6] or '0')
return outcome .. (known and ' again' or '')
