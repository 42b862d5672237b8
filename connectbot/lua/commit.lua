-- Applies the effects of some entries and acknowledges them, or does nothing at all.
--
-- KEYS  1 fences of the lane (hash)   2 users (hash)   3 stream of events
-- ARGV  1 lane   2 consumer   3 one of the entries to be acknowledged, or "" for effects without an entry
--       then any number of these two:
--       a group:  "group", key ("" = always applied), number of commands,
--                 each command: number of words, its words
--       a table:  "table", number of users, number of columns, the users, their versions,
--                 each column: "together" | "each", number of first words (1 or 2), number of words of a user,
--                 the first words, the words of each user
-- Returns 1 when applied; 0 when refused, because the fence is gone or the entry is not this consumer's any more.
--
-- A table does the same for many users: a column is one command for all of them ("together") or one for each. A user
-- is left out when the hash of users knows a newer version: among events about one user the newest wins, whoever
-- commits last. A group that names a key is skipped when the key exists: what it does is done once. A script does not
-- roll back: the acknowledgement comes last, so that a command that fails leaves every entry pending.

local lane, consumer, entry = ARGV[1], ARGV[2], ARGV[3]

if entry ~= "" then
  if redis.call("HEXISTS", KEYS[1], consumer) == 0 then return 0 end
  local pending = redis.call("XPENDING", KEYS[3], lane, entry, entry, 1)
  if #pending == 0 or pending[1][2] ~= consumer then return 0 end
end

local function apply_group(at)
  local key, commands = ARGV[at + 1], tonumber(ARGV[at + 2])
  local outdated = key ~= "" and redis.call("EXISTS", key) == 1
  at = at + 3
  for _ = 1, commands do
    local words = tonumber(ARGV[at])
    if not outdated then redis.call(unpack(ARGV, at + 1, at + words)) end
    at = at + words + 1
  end
  return at
end

local function find_outdated(users_at, versions_at, users)
  local found, some = {}, false
  local newest = redis.call("HMGET", KEYS[2], unpack(ARGV, users_at, versions_at - 1))
  for row = 0, users - 1 do
    local known, version, outdated = newest[row + 1], ARGV[versions_at + row], false
    outdated = known and string.sub(known, 1, #version) > version
    if outdated then found[row], some = true, true end
  end
  return found, some
end

local function apply_one(first, count, from, to)
  if count == 1 then
    redis.call(ARGV[first], unpack(ARGV, from, to))
  else
    redis.call(ARGV[first], ARGV[first + 1], unpack(ARGV, from, to))
  end
end

local function apply_table(at)
  local users, columns = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local outdated, some = find_outdated(at + 3, at + 3 + users, users)
  at = at + 3 + 2 * users
  for _ = 1, columns do
    local together, count, width = ARGV[at] == "together", tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local first, rows = at + 3, at + 3 + count
    at = rows + users * width
    if together and not some then
      redis.call(unpack(ARGV, first, at - 1))
    else
      for row = 0, users - 1 do
        local from = rows + row * width
        if not outdated[row] then apply_one(first, count, from, from + width - 1) end
      end
    end
  end
  return at
end

local at, last = 4, #ARGV
while at <= last do
  at = ARGV[at] == "table" and apply_table(at) or apply_group(at)
end
return 1
