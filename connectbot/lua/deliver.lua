-- Carries out parcels of commands in their order, each once, however often it is asked to.
--
-- KEYS  1 stream of events   2 number of the last parcel delivered from the spool
-- ARGV  1 most entries the stream may hold   2 entries for it among the parcels   3 seconds for which a sender is remembered
--       then parcels:  number in the spool (0 = never was in it), key of its sender ("" = never sent before),
--                      id, number of commands,
--       each command:  number of words, its words
-- Returns {number of the last parcel dealt with, what Redis said against the next one or ""};
--         {-1, ""} when the stream has no room: nothing was done then.
--
-- A parcel whose sending was broken off names its sender: what came through, the sender is remembered for, by the id.
-- It is remembered in both ways, so that a command which was under way all the time comes too late.
-- The first command of a parcel is what counts: once it is carried out, the parcel must not come again.

local delivered = tonumber(redis.call("GET", KEYS[2]) or "0")
local last = delivered
if tonumber(ARGV[2]) > 0 and redis.call("XLEN", KEYS[1]) + tonumber(ARGV[2]) > tonumber(ARGV[1]) then
  return {-1, ""}
end

local at, refused = 4, ""

local function carry_out(commands, known)
  for nth = 1, commands do
    local words = tonumber(ARGV[at])
    if not known and refused == "" then
      local reply = redis.pcall(unpack(ARGV, at + 1, at + words))
      if nth == 1 and type(reply) == "table" and reply.err then refused = reply.err end
    end
    at = at + words + 1
  end
end

while at <= #ARGV and refused == "" do
  local number, sender, id, commands = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  at = at + 4
  local known = (number > 0 and number <= last) or (sender ~= "" and redis.call("GET", sender) == id)
  carry_out(commands, known)
  if refused == "" then
    if sender ~= "" and not known then redis.call("SET", sender, id, "EX", ARGV[3]) end
    if number > last then last = number end
  end
end
if last > delivered then redis.call("SET", KEYS[2], string.format("%.0f", last)) end
return {last, refused}
