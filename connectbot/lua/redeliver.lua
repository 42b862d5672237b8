-- Hands entries out once more to the consumer that holds them.
--
-- KEYS  1 stream of events   2 fences of the lane (hash)
-- ARGV  1 lane   2 consumer   3 what to add to the number that Redis keeps with each entry   then the ids of the entries
-- Returns {id, number} for each entry that the consumer still holds; nothing when its fence is gone.

local lane, consumer, added = ARGV[1], ARGV[2], tonumber(ARGV[3])
local again = {}
if redis.call("HEXISTS", KEYS[2], consumer) == 0 then return again end

for at = 4, #ARGV do
  local row = redis.call("XPENDING", KEYS[1], lane, ARGV[at], ARGV[at], 1, consumer)[1]
  if row then
    local counted = row[4] + added
    redis.call("XCLAIM", KEYS[1], lane, consumer, 0, row[1], "RETRYCOUNT", counted, "JUSTID")
    again[#again + 1] = {row[1], counted}
  end
end
return again
