-- Applies the effects of some entries and acknowledges them, or does nothing at all.
--
-- KEYS  1 fences of the lane (hash)   2 users (hash)   3 stream of events   4 users seen without a role (hash)
-- ARGV  1 lane   2 consumer   3 one of the entries to be acknowledged, or "" for effects without an entry
--       then any number of these three:
--       a group:  "group", key ("" = always applied), number of commands,
--                 each command: number of words, its words
--                 ("if it can" in place of "group": what Redis refuses of them does not hold up the rest)
--       a table:  "table", the users' role ("" = deleted), number of users, number of words of all columns,
--                 of each user the id and the record (what the hash of users is to hold: version, and role if any),
--                 then each column:
--                 "record", for which the hash of users is written
--                 or "each" | "each, if known", number of first words, those, number of words, their descriptions
--                 or "list", number of first words, those
--                 or "value", text before the id in the key, text after it, lifetime in ms, number of stencils, each:
--                 length of the id, six words (stencil.lua; it and set_values.lua stand before this script)
--       a sight:  "sight", user, version, the role that the user has unless another is told
-- Returns 1 when applied; 0 when refused, because the fence is gone or the entry is not this consumer's any more.
--
-- A table does the same for many users. A column of it is one command for them all: its first words, and then the words
-- made for each user ("each"; or for those only whom the hash of users knew before) as their descriptions say: "same",
-- word · "id", text before it, text after it. Or the last word is all their ids, parted by spaces ("list"). Or the column
-- is a value of the cache for each of them. A user is left out when the hash of users knows a newer version: among events
-- about one user the newest wins, whoever commits last. A sight makes nobody's role newer: it says that the user was
-- there, and a deletion before it, whenever that is committed, takes the user's role only. A group that names a key is
-- skipped when the key exists: what it does is done once. A script does not roll back: the acknowledgement comes last, so
-- that a command that fails leaves every entry pending.

local call, sub = redis.call, string.sub
local lane, consumer, entry = ARGV[1], ARGV[2], ARGV[3]

if entry ~= "" then
  if call("HEXISTS", KEYS[1], consumer) == 0 then return 0 end
  local pending = call("XPENDING", KEYS[3], lane, entry, entry, 1)
  if #pending == 0 or pending[1][2] ~= consumer then return 0 end
end

local function apply_group(at)
  local key, commands = ARGV[at + 1], tonumber(ARGV[at + 2])
  local outdated = key ~= "" and call("EXISTS", key) == 1
  local run = ARGV[at] == "group" and call or redis.pcall
  at = at + 3
  for _ = 1, commands do
    local words = tonumber(ARGV[at])
    if not outdated then run(unpack(ARGV, at + 1, at + words)) end
    at = at + words + 1
  end
  return at
end

-- By kind of word: where its description begins -> how it is made of a user's id, and where the description ends.
local kinds = {
  same = function(at)
    local word = ARGV[at]
    return function() return word end, at + 1
  end,
  id = function(at)
    local before, after = ARGV[at], ARGV[at + 1]
    return function(id) return before .. id .. after end, at + 2
  end,
}

local function apply_sight(at)
  local id, version, role = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local known, seen = call("HGET", KEYS[2], id), call("HGET", KEYS[4], id)
  local is_deleted = known and not string.find(known, " ", 1, true)
  if is_deleted and known > version then return at + 4 end
  if not seen or seen < version then call("HSET", KEYS[4], id, version .. " " .. role) end
  if is_deleted then call("HSET", KEYS[2], id, known .. " " .. role) end
  return at + 4
end

-- What follows the version in the record of a user who was deleted with it: nothing, or the role of a later sight.
local function role_since(id, version)
  local seen = call("HGET", KEYS[4], id)
  if seen and seen > version then return string.match(seen, " .*") end
  call("HDEL", KEYS[4], id)
  return ""
end

-- The users of a table that are not outdated: their ids; each with its record; and whether it was known before.
local function current(at, count, role)
  local asked, nobody_is_known = {}, true
  for row = 1, count do asked[row] = ARGV[at + 2 * row - 2] end
  local newest = call("HMGET", KEYS[2], unpack(asked))
  for row = 1, count do nobody_is_known = nobody_is_known and not newest[row] end
  if nobody_is_known and role ~= "" then return asked, {unpack(ARGV, at, at + 2 * count - 1)}, {} end

  local ids, records, are_known, nth = {}, {}, {}, 0
  for row = 1, count do
    local id, record, known = asked[row], ARGV[at + 2 * row - 1], newest[row]
    local version_ends = role == "" and #record or #record - #role - 1
    if not known or sub(known, 1, version_ends) <= sub(record, 1, version_ends) then
      if role == "" then record = record .. role_since(id, record) end
      nth = nth + 1
      ids[nth], records[2 * nth - 1], records[2 * nth], are_known[nth] = id, id, record, known ~= false
    end
  end
  return ids, records, are_known
end

local function call_for_each(at, ids, is_for)
  local first = tonumber(ARGV[at])
  local command, makers, words = {unpack(ARGV, at + 1, at + first)}, {}, first
  at = at + first + 2
  for nth = 1, tonumber(ARGV[at - 1]) do makers[nth], at = kinds[ARGV[at]](at + 1) end
  for row = 1, #ids do
    for nth = 1, is_for[row] and #makers or 0 do
      words = words + 1
      command[words] = makers[nth](ids[row])
    end
  end
  if words > first then call(unpack(command, 1, words)) end
  return at
end

-- By its first word: where a column goes on -> it is done, and where it ends.
local columns = {}

columns["record"] = function(at, _, records)
  call("HSET", KEYS[2], unpack(records))
  return at
end

columns["each"] = function(at, ids) return call_for_each(at, ids, ids) end
columns["each, if known"] = function(at, ids, _, are_known) return call_for_each(at, ids, are_known) end

columns["list"] = function(at, ids)
  local past = at + 1 + tonumber(ARGV[at])
  local command = {unpack(ARGV, at + 1, past - 1)}
  command[#command + 1] = table.concat(ids, " ")
  call(unpack(command))
  return past
end

columns["value"] = function(at, ids)
  local before, after, lifetime = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local fills, past = {}, at + 4 + 7 * tonumber(ARGV[at + 3])
  for from = at + 4, past - 1, 7 do fills[tonumber(ARGV[from])] = filling(from + 1) end
  local set = setter(lifetime, before .. ids[1] .. after)
  for row = 1, #ids do
    local id = ids[row]
    set(before .. id .. after, fills[#id](id))
  end
  set()
  return past
end

local function apply_table(at)
  local role, users = ARGV[at + 1], tonumber(ARGV[at + 2])
  local ids, records, are_known = current(at + 4, users, role)
  local column = at + 4 + 2 * users
  local past = column + tonumber(ARGV[at + 3])
  while #ids > 0 and column < past do column = columns[ARGV[column]](column + 1, ids, records, are_known) end
  return past
end

local apply, at = {table = apply_table, sight = apply_sight}, 4
while at <= #ARGV do at = (apply[ARGV[at]] or apply_group)(at) end
return 1
