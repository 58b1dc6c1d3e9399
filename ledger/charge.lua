#!lua flags=no-cluster
-- The verbs of the ledger, each one atomic step. What they mean stands in ledger/charges.py and, plainly, in
-- ledger/model.py. Knows counters, charges and blocks as they lie in Redis; must not know mail, nor any clock
-- but the server's.
--
-- KEYS[1]  the key `meta`: everything else lies under the same prefix
-- ARGV[1]  what time it is, for tests; "" takes the server's
-- ARGV[2]  how many charges that are due are seen to before anything else
-- ARGV[3…] verbs, one after the other: name, then its arguments
-- returns  the time, then an answer for each verb; what begins with "!" is what went wrong with that verb alone
--
-- Under the prefix:
--   meta            hash: serial, generation, epoch, blocks (moves with every block)
--   u:UNIT:WINDOW:SUBJECT  hash, a counter: sub-window → amount; t their sum; lo, hi where they may lie;
--                   e how often takings were moved, v where to ("era bound" pairs)
--   s:SUBJECT       set: the counters of a subject
--   spenders        sorted set: subjects that have used something, by when nothing of it counts any more
--   c:…             a charge: {state, due, index, messages, recipients, bytes, limits, takings, principal, sender, mta}
--   q:…             sorted set: the charges of an MTA's queue id, the newest last
--   n:MTA           sorted set: charges with a record that no milter has taken up, by when they were reserved
--   due             sorted set: every charge, by when it lapses or goes
--   blocks          hash: block id → "version lifted length body lifting"
--   m:KEY           hash, marks: name → when it ends ("-": when it is dropped)
--   secrets         hash: name → 32 octets
--   a:LOGIN         hash, app passwords: id → "made revoked used from body"
--   app_ids         hash: id of an app password → login
--   e               hash, events: id → "serial at length subject body"
--   es              sorted set: the ids of events by their serials (meta: events is the last)
--   e:SUBJECT       sorted set: the ids of a subject's events by their serials
--   audit           stream

local META = KEYS[1]
local P = string.sub(META, 1, -5)
local call, floor, format = redis.call, math.floor, string.format
local RESERVED, SETTLED, REFUNDED, LAPSED = 0, 1, 2, 3
local LAPSE, LAPSED_KEPT, RECORD_KEPT = 3600, 86400, 3600
local UNTAKEN_WITHIN = 600
local TOMBSTONE_KEPT = 30 * 86400
local MARGIN = 600 -- seconds that a key outlives what it is for
local MOST = 2 ^ 53 -- beyond it, sums are no longer exact: nothing is added
local now, moved = 0, false
local counters, parsed = {}, {}

local function int(n) return format("%.0f", n) end
local function stamp(at) return at and format("%.17g", at) or "-" end

-- ---- limits and counters

-- "amount unit window enforce subject" per line, as ledger/script.py writes them
local function limits_of(text)
  local known = parsed[text]
  if known then return known end
  local list = {}
  for amount, unit, window, enforce, subject in string.gmatch(text, "(%d+) (%a+) (%d+) (%d) ([^\n]*)\n") do
    local window = tonumber(window)
    list[#list + 1] = {
      amount = tonumber(amount), unit = unit, window = window, enforce = enforce == "1", subject = subject,
      key = window > 0 and P .. "u:" .. unit .. ":" .. window .. ":" .. subject
    }
  end
  parsed[text] = list
  return list
end

-- The counters of these limits, each once, in order: what an index in a taking means.
local function counters_of(limits)
  if limits.counters then return limits.counters end
  local list, seen = {}, {}
  for _, limit in ipairs(limits) do
    if limit.key and not seen[limit.key] then
      seen[limit.key] = true
      list[#list + 1] = limit
    end
  end
  limits.counters = list
  return list
end

-- Drop what counts no longer, and let what lies in the future (the clock was set back) be now's.
local function tidy(c)
  local lo, hi, total, later = nil, nil, 0, 0
  local all = call("HGETALL", c.key)
  local gone, here = {}, 0
  for i = 1, #all, 2 do
    local bucket, amount = tonumber(all[i]), tonumber(all[i + 1])
    if bucket then
      if bucket < c.current - 60 then gone[#gone + 1] = all[i]
      elseif bucket > c.current then gone[#gone + 1] = all[i]; later = later + amount; total = total + amount
      else
        total = total + amount
        if bucket == c.current then here = amount end
        if not lo or bucket < lo then lo = bucket end
        if not hi or bucket > hi then hi = bucket end
      end
    elseif all[i] == "v" then c.moves = all[i + 1]
    end
  end
  if #gone > 0 then call("HDEL", c.key, unpack(gone)) end
  local set = {"t", int(total), "lo", int(lo or c.current), "hi", int(hi or c.current)}
  if c.hi > c.current then
    here = here + later
    set[6] = int(c.current)
    set[7], set[8] = int(c.current), int(here)
    if not lo then set[4] = int(c.current) end
    c.era = c.era + 1
    -- a later, lower bound counts for all that was moved before
    local kept = {}
    for era, bound in string.gmatch(c.moves or "", "(%d+) (-?%d+);") do
      if tonumber(bound) < c.current then kept[#kept + 1] = era .. " " .. bound .. ";" end
    end
    while #kept > 40 do table.remove(kept, 1) end
    kept[#kept + 1] = int(c.era) .. " " .. int(c.current) .. ";"
    set[9], set[10], set[11], set[12] = "e", int(c.era), "v", table.concat(kept)
  end
  call("HSET", c.key, unpack(set))
  c.total, c.here, c.hi = total, here, tonumber(set[6])
end

-- The counter of a limit as it is now; read once in a run.
local function counter(limit)
  local c = counters[limit.key]
  if c then return c end
  local current = floor(now / (limit.window / 60))
  local got = call("HMGET", limit.key, "t", "lo", "hi", "e", int(current))
  c = {key = limit.key, window = limit.window, unit = limit.unit, subject = limit.subject, current = current}
  c.total, c.era, c.here = tonumber(got[1] or 0), tonumber(got[4] or 0), tonumber(got[5] or 0)
  c.fresh = not got[1]
  c.hi = tonumber(got[3] or current)
  counters[limit.key] = c
  if not c.fresh and (tonumber(got[2]) < current - 60 or c.hi > current) then tidy(c) end
  return c
end

-- What these counters, which hold something new, must not lose: their own lives, and that of what lists them.
local function keep(fresh)
  local subjects = {}
  for _, c in ipairs(fresh) do
    call("EXPIRE", c.key, c.window + 2 * floor(c.window / 60) + MARGIN)
    local of = subjects[c.subject] or {longest = 0, names = {}}
    subjects[c.subject] = of
    of.longest = math.max(of.longest, c.window)
    of.names[#of.names + 1] = c.unit .. ":" .. int(c.window)
  end
  local all = P .. "spenders"
  for subject, of in pairs(subjects) do
    local index = P .. "s:" .. subject
    call("SADD", index, unpack(of.names))
    if call("TTL", index) < of.longest + MARGIN then call("EXPIRE", index, 2 * of.longest + 2 * MARGIN) end
    call("ZADD", all, "GT", stamp(now + of.longest + floor(of.longest / 60)), subject)
  end
  for _, gone in ipairs(call("ZRANGEBYSCORE", all, "-inf", stamp(now), "LIMIT", 0, 2)) do call("ZREM", all, gone) end
end

-- Take `amounts` from each counter; returns the takings: index, sub-window, amount, era.
local function take(limits, amounts, takings)
  local fresh = {}
  for index, limit in ipairs(counters_of(limits)) do
    local c = counter(limit)
    local amount = math.min(amounts[c.unit], MOST - c.total)
    if amount > 0 then
      if c.fresh or c.here == 0 then fresh[#fresh + 1] = c end
      c.total, c.here = c.total + amount, c.here + amount
      if c.fresh then
        call("HSET", c.key, "t", int(c.total), "lo", int(c.current), "hi", int(c.current), int(c.current),
          int(c.here))
      else
        call("HSET", c.key, "t", int(c.total), "hi", int(c.current), int(c.current), int(c.here))
      end
      c.fresh, c.hi = false, c.current
      takings[#takings + 1] = {index, c.current, amount, c.era}
    end
  end
  if #fresh > 0 then keep(fresh) end
  return takings
end

-- Where what was taken in `era` lies by now.
local function moved_to(key, bucket, era)
  local got = call("HMGET", key, "e", "v")
  if tonumber(got[1] or 0) > era then
    for at, bound in string.gmatch(got[2] or "", "(%d+) (-?%d+);") do
      if tonumber(at) > era then bucket = math.min(bucket, tonumber(bound)) end
    end
  end
  return bucket, tonumber(got[1] or 0)
end

local function change(key, bucket, by)
  counters[key] = nil
  if by ~= 0 then
    call("HINCRBY", key, int(bucket), int(by))
    call("HINCRBY", key, "t", int(by))
  end
end

-- Give `amount` of a taking back, out of the very sub-window it lies in; returns what came back of it.
local function give(key, taking, amount)
  local bucket, era = moved_to(key, taking[2], taking[4])
  taking[2], taking[4] = bucket, era
  local back = math.min(amount, tonumber(call("HGET", key, int(bucket)) or 0))
  change(key, bucket, -back)
  return back
end

local function give_back(charge)
  local list, back = counters_of(limits_of(charge.limits)), {}
  for i, taking in ipairs(charge.takings) do
    back[i] = {list[taking[1]].key, taking, give(list[taking[1]].key, taking, taking[3])}
  end
  return back
end

local function buckets_of(c)
  local list, all = {}, call("HGETALL", c.key)
  for i = 1, #all, 2 do
    local bucket = tonumber(all[i])
    if bucket and tonumber(all[i + 1]) > 0 then list[#list + 1] = {bucket, tonumber(all[i + 1])} end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

-- When `wanted` more fit (ledger.limits.reopens_at); nil if never.
local function reopens(c, limit, wanted)
  if wanted > limit.amount then return nil end
  local used, at = c.total, now
  for _, pair in ipairs(buckets_of(c)) do
    if used + wanted <= limit.amount then break end
    used = used - pair[2]
    at = (pair[1] + 61) * floor(limit.window / 60)
  end
  return at
end

local function standing(limit)
  if limit.window == 0 then return "0 -" end
  local c = counter(limit)
  return int(c.total) .. " " .. stamp(c.total >= limit.amount and reopens(c, limit, 1) or nil)
end

local function admitted(limits)
  local said = {"A"}
  for i, limit in ipairs(limits) do said[i + 1] = standing(limit) end
  return table.concat(said, " ")
end

-- The enforced limits under which `over` cannot be taken, `whole` being all that the message has.
local function failing(limits, whole, over)
  local list = {}
  for i, limit in ipairs(limits) do
    local wanted, fits = over[limit.unit], nil
    if limit.window == 0 then fits = whole[limit.unit] <= limit.amount
    else fits = counter(limit).total + wanted <= limit.amount end
    if limit.enforce and wanted > 0 and not fits then list[#list + 1] = i end
  end
  return list
end

-- The refusal by the one of the failing limits that reopens last.
local function refused(limits, list, amounts)
  local latest, said
  for _, i in ipairs(list) do
    local limit, at = limits[i], nil
    if limit.window > 0 then at = reopens(counter(limit), limit, amounts[limit.unit]) end
    if not said or (at or math.huge) > latest then
      latest, said = at or math.huge, "R " .. int(i - 1) .. " " .. standing(limit) .. " " .. stamp(at)
    end
  end
  return said
end

-- ---- charges

local function sized(text) return #text .. ":" .. text end

local function charge_key(mta, queue_id, instance)
  return P .. "c:" .. sized(mta) .. sized(queue_id) .. instance
end

local function read(key)
  local packed = call("GET", key)
  if not packed then return nil end
  local f = cmsgpack.unpack(packed)
  return {
    key = key, was = f[1], state = f[1], due = f[2], index = f[3], messages = f[4], recipients = f[5], bytes = f[6],
    limits = f[7], takings = f[8], principal = f[9], sender = f[10], mta = f[11]
  }
end

local function write(c, kept)
  c.due = now + kept
  local ttl = c.state == RESERVED and LAPSE + LAPSED_KEPT or kept
  local packed = cmsgpack.pack({
    c.state, c.due, c.index, c.messages, c.recipients, c.bytes, c.limits, c.takings, c.principal, c.sender,
    c.mta
  })
  call("SET", c.key, packed, "EX", ttl + MARGIN)
  call("ZADD", P .. "due", stamp(c.due), c.key)
  -- The index outlives what is known of its charges; only what has lapsed lives on for longer.
  if not c.was then call("EXPIRE", c.index, LAPSE + 2 * LAPSED_KEPT + 3 * MARGIN)
  elseif (c.was == LAPSED or c.state == LAPSED) and call("TTL", c.index) < ttl + MARGIN then
    call("EXPIRE", c.index, ttl + LAPSED_KEPT + 2 * MARGIN)
  end
end

local function forget(c)
  call("DEL", c.key)
  call("ZREM", P .. "due", c.key)
  call("ZREM", c.index, c.key)
  call("ZREM", P .. "n:" .. c.mta, c.key)
end

local function lapse(c)
  give_back(c)
  c.state, c.takings = LAPSED, {}
  write(c, LAPSED_KEPT)
  moved = true
end

local function sweep(most)
  for _, key in ipairs(call("ZRANGEBYSCORE", P .. "due", "-inf", stamp(now), "LIMIT", 0, most)) do
    local c = read(key)
    if not c then call("ZREM", P .. "due", key)
    elseif c.state == RESERVED then lapse(c)
    else forget(c) end
  end
end

local function newest(mta, queue_id)
  local index = P .. "q:" .. sized(mta) .. queue_id
  while true do
    local key = call("ZREVRANGE", index, 0, 0)[1]
    if not key then return nil end
    local c = read(key)
    if c then return c end
    call("ZREM", index, key)
  end
end

local verbs = {}

function verbs.reserve(mta, queue_id, instance, principal, sender, messages, recipients, bytes, text, final)
  local amounts = {messages = tonumber(messages), recipients = tonumber(recipients), bytes = tonumber(bytes)}
  local limits = limits_of(text)
  local key = charge_key(mta, queue_id, instance)
  local known = read(key)
  if known and known.state <= SETTLED and known.messages == amounts.messages
    and known.recipients == amounts.recipients and known.bytes == amounts.bytes then
    return admitted(limits)
  end
  local back = {}
  for _, limit in ipairs(counters_of(limits)) do counter(limit) end
  if known and known.state == RESERVED then
    for _, limit in ipairs(counters_of(limits_of(known.limits))) do counter(limit) end
    back = give_back(known)
  end
  local list = failing(limits, amounts, amounts)
  if #list > 0 then
    local said = refused(limits, list, amounts)
    for _, entry in ipairs(back) do change(entry[1], entry[2][2], entry[3]) end
    return said
  end
  local index = P .. "q:" .. sized(mta) .. queue_id
  call("ZADD", index, call("HINCRBY", META, "serial", 1), key)
  local c = {
    key = key, index = index, state = final == "1" and SETTLED or RESERVED, limits = text,
    messages = amounts.messages, recipients = amounts.recipients, bytes = amounts.bytes,
    takings = take(limits, amounts, {}), principal = false, sender = false, mta = mta
  }
  if principal ~= "" and final ~= "1" then
    c.principal, c.sender = principal, sender
    call("ZADD", P .. "n:" .. mta, stamp(now), key)
  elseif known then
    call("ZREM", P .. "n:" .. mta, key)
  end
  write(c, final == "1" and RECORD_KEPT or LAPSE)
  return admitted(limits)
end

function verbs.settle(mta, queue_id, instance, messages, recipients, bytes)
  local amounts = {messages = tonumber(messages), recipients = tonumber(recipients), bytes = tonumber(bytes)}
  local c = read(charge_key(mta, queue_id, instance))
  if not c then return {"A", ""} end
  local limits = limits_of(c.limits)
  if c.state == SETTLED or c.state == REFUNDED then return {admitted(limits), c.limits} end
  local over, less = {}, {}
  for unit, amount in pairs(amounts) do
    local before = c.state == RESERVED and c[unit] or 0
    over[unit], less[unit] = math.max(0, amount - before), math.max(0, before - amount)
  end
  local list = failing(limits, amounts, over)
  if #list > 0 then
    lapse(c)
    return {refused(limits, list, amounts), c.limits}
  end
  for _, taking in ipairs(c.takings) do
    local limit = counters_of(limits)[taking[1]]
    if less[limit.unit] > 0 then
      local back = math.min(less[limit.unit], taking[3])
      give(limit.key, taking, back)
      taking[3] = taking[3] - back
    end
  end
  take(limits, over, c.takings)
  c.state = SETTLED
  write(c, RECORD_KEPT)
  return {admitted(limits), c.limits}
end

function verbs.release(mta, queue_id, instance)
  local c = read(charge_key(mta, queue_id, instance))
  if not c or c.state ~= RESERVED then return "0" end
  give_back(c)
  forget(c)
  moved = true
  return "1"
end

function verbs.refund(mta, queue_id, subject)
  local c = newest(mta, queue_id)
  if not c or c.principal ~= subject or c.state == REFUNDED then return "0" end
  local charged = c.state ~= LAPSED
  if charged then
    give_back(c)
    moved = true
  end
  c.state, c.takings = REFUNDED, {}
  write(c, RECORD_KEPT)
  return charged and "1" or "0"
end

function verbs.record(mta, queue_id, taken)
  local c = newest(mta, queue_id)
  if not c or not c.principal or c.state > SETTLED then return {} end
  if taken then call("ZREM", P .. "n:" .. mta, c.key) end
  return {c.principal, c.sender}
end

function verbs.take_up(mta, queue_id) return verbs.record(mta, queue_id, true) end

function verbs.refund_untaken(mta, older_than)
  local last, count = now - tonumber(older_than), 0
  local from = stamp(last - UNTAKEN_WITHIN)
  for _, key in ipairs(call("ZRANGEBYSCORE", P .. "n:" .. mta, from, stamp(last), "LIMIT", 0, 500)) do
    local c = read(key)
    if c and c.state <= SETTLED then
      give_back(c)
      c.state, c.takings = REFUNDED, {}
      write(c, RECORD_KEPT)
      moved = true
      count = count + 1
    end
    if not c or c.state == REFUNDED then call("ZREM", P .. "n:" .. mta, key) end
  end
  return int(count)
end

function verbs.standing(text) return admitted(limits_of(text)) end

-- Who has used something that still counts: `most` of them after the first `offset`.
function verbs.spenders(offset, most)
  return call("ZRANGEBYSCORE", P .. "spenders", stamp(now), "+inf", "LIMIT", offset, most)
end

function verbs.look(epoch)
  call("HSETNX", META, "generation", "1")
  call("HSETNX", META, "epoch", epoch)
  return call("HMGET", META, "generation", "epoch", "blocks")
end

-- ---- what is seldom said: made only when it is, since a run makes every function anew

local function seldom()

-- ---- what operators do

local function note(stream, most, text)
  call("XADD", P .. stream, "MAXLEN", "~", most, "*", "at", stamp(now), "what", text)
end

function verbs.reset(subject, audit)
  local count = 0
  for _, name in ipairs(call("SMEMBERS", P .. "s:" .. subject)) do
    local unit, window = string.match(name, "^(%a+):(%d+)$")
    local limit = {key = P .. "u:" .. name .. ":" .. subject, window = tonumber(window), unit = unit,
      subject = subject}
    local c = counter(limit)
    if c.total > 0 then count = count + 1 end
    local gone = {}
    for _, field in ipairs(call("HKEYS", c.key)) do
      if tonumber(field) then gone[#gone + 1] = field end
    end
    if #gone > 0 then call("HDEL", c.key, unpack(gone)) end
    if not c.fresh then
      call("HSET", c.key, "t", "0", "lo", int(c.current), "hi", int(c.current), "e", int(c.era + 1), "v",
        int(c.era + 1) .. " -1;")
    end
    counters[c.key] = nil
  end
  note("audit", 100000, audit)
  moved = true
  return int(count)
end

function verbs.blocks()
  return {call("HGET", META, "generation") or "0", call("HGETALL", P .. "blocks")}
end

local function set_block(id, text)
  call("HSET", P .. "blocks", id, text)
  call("HINCRBY", META, "blocks", 1)
  moved = true
end

local function head(text)
  local version, lifted, size, rest = string.match(text, "^(%d+) (%S+) (%d+) (.*)$")
  return tonumber(version), lifted, string.sub(rest, 1, tonumber(size)), string.sub(rest, size + 1)
end

-- A known block that isn't lifted is changed, else it is a new one, under the first of `ids` that is not taken.
function verbs.keep(id, ids, body, audit)
  local known, version = id ~= "" and call("HGET", P .. "blocks", id), 1
  if known then
    local before, lifted = head(known)
    if lifted == "-" then version = before + 1 else id = "" end
  end
  if id == "" then
    for fresh in string.gmatch(ids, "%S+") do
      if call("HEXISTS", P .. "blocks", fresh) == 0 then id = fresh; break end
    end
  end
  if id == "" then error("no block id is free", 0) end
  set_block(id, int(version) .. " - " .. #body .. " " .. body)
  note("audit", 100000, (string.gsub(audit, "%%ID%%", id)))
  return {id, int(version)}
end

function verbs.lift(id, lifting, audit)
  local known = call("HGET", P .. "blocks", id)
  if not known then return "" end
  local version, lifted, body = head(known)
  if lifted ~= "-" then return "" end
  local text = int(version + 1) .. " " .. stamp(now) .. " " .. #body .. " " .. body .. lifting
  set_block(id, text)
  note("audit", 100000, audit)
  return text
end

-- Lifted, or ended, for longer than tombstones are kept; the seventh value of a body is its end.
local function is_over(lifted, body)
  local gone = tonumber(lifted) or cjson.decode(body)[7]
  return type(gone) == "number" and gone < now - TOMBSTONE_KEPT
end

-- A node's copy joins what is here: the highest version wins, a tombstone wins over its block.
function verbs.merge(id, text)
  local version, lifted, body = head(text)
  if is_over(lifted, body) then return "0" end
  local known = call("HGET", P .. "blocks", id)
  if known then
    local before, gone = head(known)
    if version < before or (version == before and (gone ~= "-" or lifted == "-")) then return "0" end
  end
  set_block(id, text)
  return "1"
end

-- Tombstones, and blocks that have ended, are kept for 30 days.
function verbs.bury()
  local all = call("HGETALL", P .. "blocks")
  for i = 1, #all, 2 do
    local readable, over = pcall(function(text)
      local _, lifted, body = head(text)
      return is_over(lifted, body)
    end, all[i + 1])
    if readable and over then call("HDEL", P .. "blocks", all[i]) end
  end
  return "1"
end

function verbs.audit(text)
  note("audit", 100000, text)
  return "1"
end

function verbs.audit_tail(most)
  local said = {}
  for _, entry in ipairs(call("XREVRANGE", P .. "audit", "+", "-", "COUNT", most)) do
    said[#said + 1], said[#said + 2] = entry[2][2], entry[2][4]
  end
  return said
end

-- A block that sets itself, once: whoever comes second finds its id taken.
function verbs.keep_once(id, body, audit)
  if call("HEXISTS", P .. "blocks", id) == 1 then return "0" end
  set_block(id, "1 - " .. #body .. " " .. body)
  note("audit", 100000, audit)
  return "1"
end

-- ---- events

local EVENTS_MOST, EVENTS_KEPT, EVENTS_OF_ONE = 20000, 31 * 86400, 200

-- Forget the oldest events, two at a time at most, when they are too many or too old.
local function forget_events(last)
  for _, id in ipairs(call("ZRANGEBYSCORE", P .. "es", "-inf", "+inf", "LIMIT", 0, 2)) do
    local serial, at = string.match(call("HGET", P .. "e", id) or "0 0 ", "^(%d+) (%S+) ")
    if tonumber(serial) > last - EVENTS_MOST and tonumber(at) > now - EVENTS_KEPT then return end
    call("HDEL", P .. "e", id)
    call("ZREM", P .. "es", id)
  end
end

-- The first to note an id has noted it for all.
function verbs.event_note(id, subject, at, body)
  if call("HEXISTS", P .. "e", id) == 1 then return "0" end
  local serial, of = call("HINCRBY", META, "events", 1), P .. "e:" .. subject
  local told = at == "" and stamp(now) or at
  call("HSET", P .. "e", id, int(serial) .. " " .. told .. " " .. #subject .. " " .. subject .. body)
  call("ZADD", P .. "es", int(serial), id)
  call("ZADD", of, int(serial), id)
  call("EXPIRE", of, EVENTS_KEPT)
  for _, old in ipairs(call("ZREVRANGE", of, EVENTS_OF_ONE, EVENTS_OF_ONE + 1)) do call("ZREM", of, old) end
  forget_events(serial)
  return "1"
end

local function events_with(said, ids)
  for _, id in ipairs(ids) do
    local text = call("HGET", P .. "e", id)
    if text then said[#said + 1], said[#said + 2] = id, text end
  end
  return said
end

function verbs.events_of(subject) return events_with({}, call("ZREVRANGE", P .. "e:" .. subject, 0, EVENTS_OF_ONE - 1)) end

function verbs.event_find(id) return events_with({}, {id}) end

function verbs.events_after(serial, most)
  local got = call("HMGET", META, "epoch", "events")
  return events_with({got[1] or "", got[2] or "0"}, call("ZRANGEBYSCORE", P .. "es", "(" .. serial, "+inf", "LIMIT", 0, most))
end

-- ---- what AUTH keeps

local YEARS = 10 * 366 * 86400

-- The marks under a key that have not ended, how many they are, and for how many seconds the last one lasts.
local function marks_of(key)
  local living, count, last, gone = {}, 0, 0, {}
  local all = call("HGETALL", P .. "m:" .. key)
  for i = 1, #all, 2 do
    local ends = all[i + 1] == "-" and now + YEARS or tonumber(all[i + 1])
    if ends > now then
      living[all[i]], count, last = true, count + 1, math.max(last, ends - now)
    else
      gone[#gone + 1] = all[i]
    end
  end
  return living, count, last, gone
end

function verbs.marks_look(pairs_text)
  local said = {}
  for i, pair in ipairs(cjson.decode(pairs_text)) do
    local living, count = marks_of(pair[1])
    said[i] = int(count) .. (living[pair[2]] and " 1" or " 0")
  end
  return said
end

-- Marks as [key, name, seconds or null, most]; `move` "1" has everybody look.
function verbs.marks_note(marks_text, move)
  local marks = cjson.decode(marks_text)
  for _, mark in ipairs(marks) do
    if mark[4] > 0 then
      local living, count = marks_of(mark[1])
      if count - (living[mark[2]] and 1 or 0) >= mark[4] then return "0" end
    end
  end
  for _, mark in ipairs(marks) do
    local key = P .. "m:" .. mark[1]
    local _, _, last, gone = marks_of(mark[1])
    local seconds = mark[3] ~= cjson.null and mark[3] or YEARS
    for _, name in ipairs(gone) do call("HDEL", key, name) end
    local before = call("HGET", key, mark[2])
    if before ~= "-" and (not before or tonumber(before) < now + seconds) then
      call("HSET", key, mark[2], mark[3] ~= cjson.null and stamp(now + seconds) or "-")
    end
    call("EXPIRE", key, floor(math.max(last, seconds)) + MARGIN)
  end
  moved = moved or move == "1"
  return "1"
end

function verbs.marks_drop(pairs_text)
  for _, pair in ipairs(cjson.decode(pairs_text)) do
    if pair[2] == "" then call("DEL", P .. "m:" .. pair[1]) else call("HDEL", P .. "m:" .. pair[1], pair[2]) end
  end
  return "1"
end

function verbs.marks_names(key)
  local names = {}
  for name in pairs((marks_of(key))) do names[#names + 1] = name end
  return names
end

function verbs.secret(name, fresh)
  call("HSETNX", P .. "secrets", name, fresh)
  return "=" .. call("HGET", P .. "secrets", name) -- it may begin with "!"
end

function verbs.apps(login) return call("HGETALL", P .. "a:" .. login) end

function verbs.apps_keep(login, id, body, audit)
  if call("HSETNX", P .. "app_ids", id, login) == 0 then return "0" end
  call("HSET", P .. "a:" .. login, id, stamp(now) .. " - - - " .. body)
  note("audit", 100000, audit)
  moved = true
  return "1"
end

local function app(login, id)
  local text = call("HGET", P .. "a:" .. login, id)
  if text then return string.match(text, "^(%S+) (%S+) (%S+) (%S+) (.*)$") end
end

function verbs.apps_revoke(login, id, audit)
  local made, revoked, used, from, body = app(login, id)
  if revoked ~= "-" then return "0" end
  call("HSET", P .. "a:" .. login, id, table.concat({made, stamp(now), used, from, body}, " "))
  note("audit", 100000, audit)
  moved = true
  return "1"
end

function verbs.apps_use(login, id, address)
  local made, revoked, _, _, body = app(login, id)
  if not made then return "0" end
  local from = string.gsub(address, "%s", "")
  call("HSET", P .. "a:" .. login, id,
    table.concat({made, revoked, stamp(now), from == "" and "-" or from, body}, " "))
  return "1"
end

end

setmetatable(verbs, {__index = function(_, name)
  setmetatable(verbs, nil)
  seldom()
  return verbs[name]
end})

-- ---- one run

local COUNT = {
  reserve = 10, settle = 6, release = 3, refund = 3, record = 2, take_up = 2,
  refund_untaken = 2, standing = 1, spenders = 2, reset = 2, look = 1, blocks = 0,
  keep = 4, lift = 3, merge = 2, bury = 0,
  audit = 1, audit_tail = 1, keep_once = 3, event_note = 4, events_of = 1, event_find = 1, events_after = 2,
  marks_look = 1, marks_note = 2, marks_drop = 1, marks_names = 1, secret = 2,
  apps = 1, apps_keep = 4, apps_revoke = 3, apps_use = 3
}

if ARGV[1] == "" then
  local time = call("TIME")
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
else
  now = tonumber(ARGV[1])
end
sweep(tonumber(ARGV[2]))
local said, i = {stamp(now)}, 3
while ARGV[i] do
  local name = ARGV[i]
  local arguments = {}
  for n = 1, COUNT[name] do arguments[n] = ARGV[i + n] end
  i = i + COUNT[name] + 1
  local done, answer = pcall(verbs[name], unpack(arguments, 1, COUNT[name]))
  if not done then
    counters = {}
    answer = "!" .. (type(answer) == "table" and (answer.err or "?") or tostring(answer))
  end
  said[#said + 1] = answer
end
if moved then call("HINCRBY", META, "generation", 1) end
return said
