-- Notes that a bridge listens to v21's channels, and counts the gap before, in which none of them did.
--
-- KEYS  1 when a bridge last listened (string)   2 counters (hash)
-- ARGV  1 "1" when this bridge has listened without a break since its last note, else "0"
--       2 milliseconds since this bridge last listened, 0 when it never did   3 shortest gap that counts, in ms
-- Returns the length of the gap in milliseconds; 0 when there was none.
--
-- The whole is atomic, so that of several bridges that come back together one counts the gap. Its own memory
-- (ARGV 2) is asked only when Redis has lost its data. Redis' own clock decides, not that of a caller.

local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local gap = 0
if ARGV[1] == "0" then
  local last = redis.call("GET", KEYS[1])
  gap = last and now - tonumber(last) or tonumber(ARGV[2])
end
redis.call("SET", KEYS[1], string.format("%d", now))
if gap < tonumber(ARGV[3]) then return 0 end
redis.call("HINCRBY", KEYS[2], "bridge_gaps", 1)
redis.call("HINCRBY", KEYS[2], "bridge_gap_ms", gap)
return gap
