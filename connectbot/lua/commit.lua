-- Applies the effects of some entries and acknowledges them, or does nothing at all.
--
-- KEYS  1 fences of the lane (hash)   2 users (hash)   3 stream of events
-- ARGV  1 lane   2 consumer   3 one of the entries to be acknowledged, or "" for effects without an entry
--       then groups:   user ("" = always applied), version, number of commands,
--       each command:  number of words, its words
-- Returns 1 when applied; 0 when refused, because the fence is gone or the entry is not this consumer's any more.
--
-- A group of a user is skipped when the hash of users knows a newer version: among events about one user the
-- newest wins, whoever commits last. A script does not roll back: the acknowledgement comes last in the groups,
-- so that a command that fails leaves every entry pending.

local lane, consumer, entry = ARGV[1], ARGV[2], ARGV[3]

if entry ~= "" then
  if redis.call("HEXISTS", KEYS[1], consumer) == 0 then return 0 end
  local pending = redis.call("XPENDING", KEYS[3], lane, entry, entry, 1)
  if #pending == 0 or pending[1][2] ~= consumer then return 0 end
end

local at, last = 4, #ARGV
while at <= last do
  local user, version, commands = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  at = at + 3
  local outdated = false
  if user ~= "" then
    local known = redis.call("HGET", KEYS[2], user)
    outdated = known and string.sub(known, 1, #version) > version
  end
  for _ = 1, commands do
    local words = tonumber(ARGV[at])
    if not outdated then redis.call(unpack(ARGV, at + 1, at + words)) end
    at = at + words + 1
  end
end
return 1
