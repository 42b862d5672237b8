-- Applies the effects of some entries and acknowledges them, or does nothing at all.
--
-- KEYS  1 fences of the lane (hash)   2 users (hash)   3 stream of events   4 users seen without a role (hash)
-- ARGV  1 lane   2 consumer   3 one of the entries to be acknowledged, or "" for effects without an entry
--       then any number of these three:
--       a group:  "group", key ("" = always applied), number of commands,
--                 each command: number of words, its words
--                 ("if it can" in place of "group": what Redis refuses of them does not hold up the rest)
--       a table:  "table", number of users, number of columns, the users, their versions, their roles ("" = deleted),
--                 then each column:
--                 "together" | "together, if known", number of first words, those, number of words, their descriptions
--                 or "value", text before the id in the key, text after it, lifetime in ms, number of stencils, each:
--                 role, length of the id, six words (stencil.lua, which stands before this script)
--       a sight:  "sight", user, version, the role that the user has unless another is told
-- Returns 1 when applied; 0 when refused, because the fence is gone or the entry is not this consumer's any more.
--
-- A table does the same for many users: a column is one command for them all ("together"; or for those only whom the
-- hash of users knew before), its first words and then the words made for each user as their descriptions say: "same",
-- word · "id", text before it, text after it · "record" (what users are kept as). Or it is a value of the cache for each
-- of them. A user is left out when the hash of users knows a newer version: among events about one user the newest wins,
-- whoever commits last. A sight makes nobody's role newer: it says that the user was there, and a deletion before it,
-- whenever that is committed, takes the user's role only. A group that names a key is skipped when the key exists: what
-- it does is done once. A script does not roll back: the acknowledgement comes last, so that a command that fails leaves
-- every entry pending.

local lane, consumer, entry = ARGV[1], ARGV[2], ARGV[3]

if entry ~= "" then
  if redis.call("HEXISTS", KEYS[1], consumer) == 0 then return 0 end
  local pending = redis.call("XPENDING", KEYS[3], lane, entry, entry, 1)
  if #pending == 0 or pending[1][2] ~= consumer then return 0 end
end

local function apply_group(at)
  local key, commands = ARGV[at + 1], tonumber(ARGV[at + 2])
  local outdated = key ~= "" and redis.call("EXISTS", key) == 1
  local call = ARGV[at] == "group" and redis.call or redis.pcall
  at = at + 3
  for _ = 1, commands do
    local words = tonumber(ARGV[at])
    if not outdated then call(unpack(ARGV, at + 1, at + words)) end
    at = at + words + 1
  end
  return at
end

-- By kind of word: where its description begins -> how it is made of a user's id, version and role, and where the
-- description ends.
local kinds = {
  same = function(at)
    local word = ARGV[at]
    return function() return word end, at + 1
  end,
  id = function(at)
    local before, after = ARGV[at], ARGV[at + 1]
    return function(id) return before .. id .. after end, at + 2
  end,
  record = function(at)
    return function(_, version, role) return role == "" and version or version .. " " .. role end, at
  end,
}

local function apply_sight(at)
  local id, version, role = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local known, seen = redis.call("HGET", KEYS[2], id), redis.call("HGET", KEYS[4], id)
  local is_deleted = known and not string.find(known, " ", 1, true)
  if is_deleted and known > version then return at + 4 end
  if not seen or seen < version then redis.call("HSET", KEYS[4], id, version .. " " .. role) end
  if is_deleted then redis.call("HSET", KEYS[2], id, known .. " " .. role) end
  return at + 4
end

-- The role of a user who was deleted with this version: "" for none, or that of a later sight.
local function role_since(id, version)
  local seen = redis.call("HGET", KEYS[4], id)
  if seen and seen > version then return string.match(seen, " (.*)") end
  redis.call("HDEL", KEYS[4], id)
  return ""
end

-- The users of a table that are not outdated: ids, versions, roles; and for each of them true, and whether known before.
local function current(at, count)
  local newest = redis.call("HMGET", KEYS[2], unpack(ARGV, at, at + count - 1))
  local ids, versions, roles, all, are_known = {}, {}, {}, {}, {}
  for row = 1, count do
    local known, id = newest[row], ARGV[at + row - 1]
    local version, role = ARGV[at + count + row - 1], ARGV[at + 2 * count + row - 1]
    if not (known and string.sub(known, 1, #version) > version) then
      if role == "" then role = role_since(id, version) end
      local nth = #ids + 1
      ids[nth], versions[nth], roles[nth], all[nth], are_known[nth] = id, version, role, true, known ~= false
    end
  end
  return ids, versions, roles, all, are_known
end

local function call_together(at, ids, versions, roles, is_for)
  local first = tonumber(ARGV[at])
  local command, makers, words = {unpack(ARGV, at + 1, at + first)}, {}, first
  at = at + first + 2
  for nth = 1, tonumber(ARGV[at - 1]) do makers[nth], at = kinds[ARGV[at]](at + 1) end
  for row = 1, #ids do
    if is_for[row] then
      for nth = 1, #makers do
        words = words + 1
        command[words] = makers[nth](ids[row], versions[row], roles[row])
      end
    end
  end
  if words > first then redis.call(unpack(command, 1, words)) end
  return at
end

local function set_values(at, ids, roles)
  local before, after, lifetime = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local stencils, past = {}, at + 4 + 8 * tonumber(ARGV[at + 3])
  for from = at + 4, past - 1, 8 do
    local role, length = ARGV[from], tonumber(ARGV[from + 1])
    stencils[role] = stencils[role] or {}
    stencils[role][length] = read_stencil(from + 2)
  end
  for row, id in ipairs(ids) do
    redis.call("SET", before .. id .. after, fill_in(stencils[roles[row]][#id], id), "PX", lifetime)
  end
  return past
end

local function apply_table(at)
  local users, columns = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local ids, versions, roles, all, known = current(at + 3, users)
  at = at + 3 + 3 * users
  for _ = 1, columns do
    if ARGV[at] == "value" then
      at = set_values(at + 1, ids, roles)
    else
      at = call_together(at + 1, ids, versions, roles, ARGV[at] == "together" and all or known)
    end
  end
  return at
end

local apply, at = {table = apply_table, sight = apply_sight}, 4
while at <= #ARGV do at = (apply[ARGV[at]] or apply_group)(at) end
return 1
