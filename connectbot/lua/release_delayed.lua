-- Puts delayed entries that are due back into the stream, named for their lane.
--
-- KEYS  1 stream of events   2 delayed (sorted set)   3 fields of the delayed entries (hash)
-- ARGV  1 now, in epoch seconds   2 most entries to release
-- Returns the number released.

local due = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", ARGV[1], "LIMIT", 0, ARGV[2])
for _, id in ipairs(due) do
  local packed = redis.call("HGET", KEYS[3], id)
  if packed then
    redis.call("XADD", KEYS[1], "*", unpack(cmsgpack.unpack(packed)))
    redis.call("HDEL", KEYS[3], id)
  end
  redis.call("ZREM", KEYS[2], id)
end
return #due
