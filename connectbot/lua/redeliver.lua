-- Hands entries out once more, to the consumer that holds them or to another.
--
-- KEYS  1 stream of events   2 fences of the lane (hash)
-- ARGV  1 lane   2 consumer that holds them   3 consumer that gets them
--       4 what to add to the number that Redis keeps with each entry   then the ids of the entries
-- Returns {id, number} for each entry that was still held; nothing when the fence of its consumer is gone.

local lane, consumer, receiver, added = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local again = {}
if redis.call("HEXISTS", KEYS[2], consumer) == 0 then return again end

for at = 5, #ARGV do
  local row = redis.call("XPENDING", KEYS[1], lane, ARGV[at], ARGV[at], 1, consumer)[1]
  if row then
    local counted = row[4] + added
    redis.call("XCLAIM", KEYS[1], lane, receiver, 0, row[1], "RETRYCOUNT", counted, "JUSTID")
    again[#again + 1] = {row[1], counted}
  end
end
return again
