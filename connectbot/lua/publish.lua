-- Publishes events to the stream and to v21's channels, or refuses all of them when the backlog is full.
--
-- KEYS  1 stream of events
-- ARGV  1 most entries the stream may hold   then for each event: its type, its JSON, its channel
-- Returns the number of events published; -1 when there is no room.

local events = (#ARGV - 1) / 3
if redis.call("XLEN", KEYS[1]) + events > tonumber(ARGV[1]) then return -1 end
for at = 2, #ARGV, 3 do
  redis.call("XADD", KEYS[1], "*", "type", ARGV[at], "event", ARGV[at + 1])
  redis.call("PUBLISH", ARGV[at + 2], ARGV[at + 1])
end
return events
