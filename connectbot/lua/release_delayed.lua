-- Puts delayed entries that are due back into the stream, named for their lane.
--
-- KEYS  1 stream of events   2 delayed (sorted set)
-- ARGV  1 prefix of the keys that hold the fields of delayed entries (hashes)   2 how far ahead to look, in seconds
--       3 most entries to release
-- Returns the number released.

local time = redis.call("TIME")
local until_when = time[1] + time[2] / 1000000 + ARGV[2]
local due = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", until_when, "LIMIT", 0, ARGV[3])
for _, id in ipairs(due) do
  local held = ARGV[1] .. id
  local fields = redis.call("HGETALL", held)
  if #fields > 0 then redis.call("XADD", KEYS[1], "*", unpack(fields)) end
  redis.call("DEL", held)
  redis.call("ZREM", KEYS[2], id)
end
return #due
