-- Notes that a bridge listens to v21's channels, and counts the gap before, in which none of them did.
--
-- KEYS  1 when a bridge last listened (string)   2 counters (hash)
-- ARGV  1 when this note was sent, in ms of Redis' clock; "0" from a bridge that begins to listen, or begins again
--       2 milliseconds since this bridge last listened, 0 when it never did   3 shortest gap that counts, in ms
-- Returns the length of the gap in milliseconds (0 when there was none, -1 when the note came too late to mean
-- anything), and the time of Redis' clock in milliseconds.
--
-- The whole is atomic, so that of several bridges that come back together one counts the gap. A bridge's own memory
-- (ARGV 2) is asked only when Redis has lost its data. A note that lay in the socket of a hanging Redis must not
-- make it look as if somebody had listened up to now.

local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local sent, shortest = tonumber(ARGV[1]), tonumber(ARGV[3])

local gap = 0
if sent == 0 then
  local last = redis.call("GET", KEYS[1])
  gap = last and now - tonumber(last) or tonumber(ARGV[2])
elseif now - sent >= shortest then
  return {-1, now}
end

redis.call("SET", KEYS[1], string.format("%d", now))
if gap < shortest then return {0, now} end
redis.call("HINCRBY", KEYS[2], "bridge_gaps", 1)
redis.call("HINCRBY", KEYS[2], "bridge_gap_ms", gap)
return {gap, now}
