-- Gives a time to live to keys that have none.
--
-- KEYS  the keys   ARGV  1 how long they may live, in milliseconds
-- Returns how many had none.

local found = 0
for _, key in ipairs(KEYS) do
  if redis.call("PTTL", key) == -1 then
    redis.call("PEXPIRE", key, ARGV[1])
    found = found + 1
  end
end
return found
