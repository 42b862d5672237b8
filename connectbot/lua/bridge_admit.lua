-- Puts events that came by pub/sub into the stream, each once, however many workers have heard it.
--
-- KEYS  1 stream of events   2 counters (hash)   then for each message: its marker (string)
-- ARGV  1 most entries the stream may hold   2 lifetime of a marker, in seconds
--       3 most steps in a stream of steps    4 lifetime of such a stream, in seconds
--       then for each message: the type of its event, its JSON ("" = no event: it is only counted),
--       the stream of its steps ("" = it is not traced), its step
-- Returns the number of events put into the stream and the number of malformed messages, each not counting what
-- another worker had dealt with; -1 as the first when there is no room: then nothing was done.
--
-- The marker comes after the entry: should adding it fail, the next try finds no marker and adds it. A step that cannot
-- be written is left out, for the same reason: the entry is there, and the next try would add it again.

local room, lifetime = tonumber(ARGV[1]), ARGV[2]

local new, mine, events = {}, {}, 0
for at = 3, #KEYS do
  local marker = KEYS[at]
  if not mine[marker] and redis.call("EXISTS", marker) == 0 then
    mine[marker] = true
    new[#new + 1] = at
    if ARGV[4 * at - 6] ~= "" then events = events + 1 end
  end
end
if events > 0 and redis.call("XLEN", KEYS[1]) + events > room then return {-1, 0} end

for _, at in ipairs(new) do
  local type, text, steps, step = unpack(ARGV, 4 * at - 7, 4 * at - 4)
  if text ~= "" then
    local entry = redis.call("XADD", KEYS[1], "*", "type", type, "event", text)
    if steps ~= "" then
      redis.pcall("XADD", steps, "MAXLEN", "~", ARGV[3], "*", "step", step, "entry", entry)
      redis.pcall("EXPIRE", steps, ARGV[4])
    end
  end
  redis.call("SET", KEYS[at], 1, "EX", lifetime)
end
local malformed = #new - events
if events > 0 then redis.call("HINCRBY", KEYS[2], "bridge_events", events) end
if malformed > 0 then redis.call("HINCRBY", KEYS[2], "bridge_malformed", malformed) end
return {events, malformed}
