-- Forgets users that were deleted long ago. Atomic, so that one who comes back at this moment is not forgotten.
--
-- KEYS  1 users (hash)   2 deleted users (sorted set)
-- ARGV  1 deleted before, in epoch seconds   2 most users to forget
-- Returns how many were forgotten.

local forgotten = 0
for _, id in ipairs(redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", ARGV[1], "LIMIT", 0, ARGV[2])) do
  local record = redis.call("HGET", KEYS[1], id)
  if record and not string.find(record, " ") then -- without a role: still deleted
    forgotten = forgotten + redis.call("HDEL", KEYS[1], id)
  end
  redis.call("ZREM", KEYS[2], id)
end
return forgotten
