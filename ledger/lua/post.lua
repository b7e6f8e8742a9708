-- Notes which addresses a worker has, and hands out what is to be sent to them now: to each address one message at a time,
-- through one worker at a time. What it hands out was gathered for a while, or has been tried before; it stays the same message
-- until posted.lua hears what came of it. Safe to repeat: the same asker gets the same messages again.
-- ARGV: base, asker, kinds of notices that are wanted ('a,b'), how long to gather (ms), time between two messages on average
--       (ms), how many may go at once, lease (ms), documents in one message at the most, time after which the same thing is
--       told again (ms; it doubles each time, unless it was quiet for as long) and the longest such time, then the marks
-- Returns for each message {mark, id, tries, documents as a JSON list}; nothing where a newer launchq uses the ledger.

local asker, kinds, gathering, interval, burst = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local lease, at_once, again, longest = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local now = now_ms()
if outdated() then
  return {}
end

-- A document is being told: the same thing is not told again at once.
local function note_told(mark, group)
  if again == 0 then
    return
  end
  local told = key('told', mark .. ':' .. group)
  local before = redis.call('GET', told)
  local wait = before and math.min(longest, 2 * tonumber(string.match(before, '^%d+'))) or again
  redis.call('SET', told, whole(wait) .. ' ' .. whole(now + wait), 'PX', 2 * wait)
end

-- Takes the oldest documents that are due out of an outbox; a JSON list of them, or nil.
local function compose(mark)
  local held, due, next_due = redis.call('HGETALL', key('outbox', mark)), {}, math.huge
  for at = 1, #held, 2 do
    local document = cjson.decode(held[at + 1])
    local when = math.max(document.firstAt + gathering, document.notBefore or 0)
    if when <= now then
      due[#due + 1] = {group = held[at], text = held[at + 1], first = document.firstAt}
    else
      next_due = math.min(next_due, when)
    end
  end
  table.sort(due, function(a, b)
    return a.first < b.first or (a.first == b.first and a.group < b.group)
  end)
  local texts = {}
  for at = 1, math.min(#due, at_once) do
    texts[at] = due[at].text
    redis.call('HDEL', key('outbox', mark), due[at].group)
    note_told(mark, due[at].group)
  end
  if #due > at_once then
    next_due = now
  end
  if next_due < math.huge then
    redis.call('HSET', key('delivery', mark), 'since', whole(next_due - gathering))
  else
    redis.call('HDEL', key('delivery', mark), 'since')
  end
  return #texts > 0 and '[' .. table.concat(texts, ',') .. ']' or nil
end

local messages = {}
for at = 11, #ARGV do
  local mark = ARGV[at]
  local delivery = key('delivery', mark)
  redis.call('HSET', key('notify'), mark, whole(now) .. ' ' .. kinds)
  local held = redis.call('HMGET', delivery, 'asker', 'leaseEnd', 'paidTill', 'id', 'nextAt', 'since')
  local paid = math.max(now, tonumber(held[3] or '0'))
  if held[1] == asker and held[4] then
    local again = redis.call('HMGET', delivery, 'tries', 'documents')
    messages[#messages + 1] = {mark, held[4], again[1], again[2]}
  elseif tonumber(held[2] or '0') <= now and paid - now <= (burst - 1) * interval then
    local id, documents = held[4] or nil, nil
    if id and tonumber(held[5] or '0') <= now then
      documents = redis.call('HGET', delivery, 'documents')
    elseif not id and held[6] and now - held[6] >= gathering then
      id, documents = asker .. '-' .. (at - 10), compose(mark)
      if documents then
        redis.call('HSET', delivery, 'id', id, 'documents', documents, 'takenAt', whole(now))
      end
    end
    if documents then
      redis.call('HSET', delivery, 'asker', asker, 'leaseEnd', whole(now + lease), 'paidTill', whole(paid + interval))
      messages[#messages + 1] = {mark, id, whole(redis.call('HINCRBY', delivery, 'tries', 1)), documents}
    end
  end
end
return messages
