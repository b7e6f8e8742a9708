-- The second part of the head of every script: what people are told (docs/notifications.md), noted in the very step that
-- makes it happen. Each address that a worker has noted in `notify` has an `outbox`, where happenings are gathered by what they
-- are about, a JSON document each: a thousand jobs that fail alike are one document. post.lua hands them out.

local OUTBOX_KEPT = 500
local REASONS_KEPT = 5
local JOBS_KEPT = 5
local NOTICE_TEXT = 300
local ADDRESS_KEPT_MS = 7 * 86400000

-- The marks of the addresses that want to hear of this. There is no such key while nobody does.
local function listeners(kind)
  local found, noted = {}, redis.call('HGETALL', key('notify'))
  for at = 1, #noted, 2 do
    if string.find(noted[at + 1], kind, 1, true) then
      found[#found + 1] = noted[at]
    end
  end
  return found
end

-- The oldest document of this outbox may be due; post.lua looks.
local function look_soon(mark, now)
  local since = redis.call('HGET', key('delivery', mark), 'since')
  if not since or tonumber(since) > now then
    redis.call('HSET', key('delivery', mark), 'since', whole(now))
  end
end

-- Gathers one happening for everybody who wants to hear of it; `add` puts into the document what is to be said. A full
-- outbox has one document a kind for all that is new: it only counts.
local function gather(kind, about, now, add)
  for _, mark in ipairs(listeners(kind)) do
    local outbox, group = key('outbox', mark), kind .. ' ' .. about
    local held = redis.call('HGET', outbox, group)
    local full = not held and redis.call('HLEN', outbox) >= OUTBOX_KEPT
    if full then
      group = kind
      held = redis.call('HGET', outbox, group)
    end
    local document = held and cjson.decode(held)
    if not document then
      -- What was told a moment ago is told again only after a while, with all that comes meanwhile.
      local told = redis.call('GET', key('told', mark .. ':' .. group))
      document = {kind = kind, count = 0, firstAt = now, notBefore = told and tonumber(string.match(told, '%d+$')) or nil}
    end
    document.count = document.count + 1
    document.lastAt = now
    if full then
      document.further = true
    else
      add(document)
    end
    redis.call('HSET', outbox, group, cjson.encode(document))
    look_soon(mark, now)
  end
end

-- One more job in a document: a few of them by name, and their reasons counted.
local function add_job(document, id, name, message)
  document.jobs = document.jobs or {}
  if #document.jobs < JOBS_KEPT then
    document.jobs[#document.jobs + 1] = {id = id, name = name}
  end
  local reasons, many = document.reasons or {}, 0
  for _ in pairs(reasons) do
    many = many + 1
  end
  local text = cut(message or '', NOTICE_TEXT)
  if reasons[text] or many < REASONS_KEPT then
    reasons[text] = (reasons[text] or 0) + 1
  else
    document.otherReasons = (document.otherReasons or 0) + 1
  end
  document.reasons = reasons
end

-- Whether all jobs of a batch have ended, and its counts.
local function ended(batch)
  local states, fields = {}, {'total', 'createdAt', 'begunAt'}
  for state in pairs(ENDS) do
    states[#states + 1] = state
    fields[#fields + 1] = state
  end
  local kept, counts, sum = redis.call('HMGET', key('batch', batch), unpack(fields)), {}, 0
  for at, state in ipairs(states) do
    counts[state] = tonumber(kept[3 + at] or '0')
    sum = sum + counts[state]
  end
  local total = tonumber(kept[1] or '0')
  return sum == total, {total = total, counts = counts, begunAt = tonumber(kept[3] or kept[2] or '0')}
end

function notice_begin(batch, now)
  if ended(batch) then
    redis.call('HSET', key('batch', batch), 'begunAt', whole(now))
  end
end

function notice_move(id, old, new, batch, name, message, now)
  if new == 'failed' or new == 'uncertain' then
    gather(new == 'failed' and 'jobFailed' or 'needsPerson', 'jobs ' .. (batch or ''), now, function(document)
      document.what, document.batchId = new, batch or nil
      add_job(document, id, name, message)
    end)
  end
  if batch and ENDS[new] and not ENDS[old] and #listeners('batchDone') > 0 then
    local whether, news = ended(batch)
    if whether then
      gather('batchDone', batch, now, function(document)
        document.batchId, document.total, document.counts = batch, news.total, news.counts
        document.begunAt = news.begunAt
      end)
      -- What else is held of this batch comes along.
      for _, mark in ipairs(listeners('batchDone')) do
        for _, kind in ipairs({'jobFailed', 'needsPerson'}) do
          local held = redis.call('HGET', key('outbox', mark), kind .. ' jobs ' .. batch)
          local document = held and cjson.decode(held)
          if document and document.notBefore then
            document.notBefore = nil
            redis.call('HSET', key('outbox', mark), kind .. ' jobs ' .. batch, cjson.encode(document))
          end
        end
      end
    end
  end
end

function notice_block(reason, message, now)
  gather('needsPerson', 'account', now, function(document)
    document.what, document.reason, document.message = 'blocked', reason, cut(message or '', NOTICE_TEXT)
  end)
end

-- A batch bears no more failures, and waits for a person to look.
function notice_held(batch, failed, now)
  gather('needsPerson', 'held ' .. batch, now, function(document)
    document.what, document.batchId, document.failed = 'held', batch, tonumber(failed)
  end)
end

-- A sold-out lane has made an instance: what was waited for is there.
function notice_opening(lane, message, since, now)
  gather('capacityArrived', lane, now, function(document)
    document.lane, document.waiting = lane, redis.call('ZCARD', key('ready', lane))
    document.message, document.since = cut(message or '', NOTICE_TEXT), document.since or tonumber(since or whole(now))
  end)
end

-- Addresses that no worker has had for so long: what was held for them goes too.
local function forget_addresses(now)
  local noted = redis.call('HGETALL', key('notify'))
  for at = 1, #noted, 2 do
    if tonumber(string.match(noted[at + 1], '^%d+')) < now - ADDRESS_KEPT_MS then
      redis.call('HDEL', key('notify'), noted[at])
      redis.call('DEL', key('outbox', noted[at]), key('delivery', noted[at]))
    end
  end
end
