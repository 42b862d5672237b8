-- Publishes events to the stream and to v21's channels, or refuses all of them when the backlog is full.
--
-- KEYS  1 stream of events   then for each event that is traced: the stream of its steps
-- ARGV  1 most entries the stream may hold   2 number of events
--       then for each event: its type, its JSON, its channel
--       then, when any is traced: most steps in such a stream, its lifetime in seconds,
--       and for each event that is traced: which of the events it is (from 1), its step
-- Returns the number of events published; -1 when there is no room.
--
-- A step that cannot be written is left out: the events are in the stream by then, and their publisher must hear so.

local call, events, entries = redis.call, tonumber(ARGV[2]), {}
if call("XLEN", KEYS[1]) + events > tonumber(ARGV[1]) then return -1 end
for nth = 1, events do
  local at = 3 * nth
  entries[nth] = call("XADD", KEYS[1], "*", "type", ARGV[at], "event", ARGV[at + 1])
  call("PUBLISH", ARGV[at + 2], ARGV[at + 1])
end
if #KEYS == 1 then return events end

local most, seconds = ARGV[3 * events + 3], ARGV[3 * events + 4]
for traced = 2, #KEYS do
  local at = 3 * events + 2 * traced + 1
  local entry = entries[tonumber(ARGV[at])]
  redis.pcall("XADD", KEYS[traced], "MAXLEN", "~", most, "*", "step", ARGV[at + 1], "entry", entry)
  redis.pcall("EXPIRE", KEYS[traced], seconds)
end
return events
