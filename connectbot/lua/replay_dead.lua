-- Returns dead letters to the stream of events, each to the lane it died in, and takes them out of the dead ones.
--
-- KEYS  1 stream of events   2 stream of dead letters
-- ARGV  1 most entries the stream of events may hold   then the id of each dead letter
-- Returns the number returned, not counting those that are not there any more, or whose lane does not exist; -1 when
-- there is no room for all of them: then nothing was done.
--
-- Both happen in one step, so that a letter replayed twice, or by two operators at once, comes back once. The letter
-- goes last: should adding the entry fail, it stays. The entry keeps the origin, so that what has become known of a
-- user since then stays newer; it is tried as often as a new one, because it has no attempts.

if redis.call("XLEN", KEYS[1]) + #ARGV - 1 > tonumber(ARGV[1]) then return -1 end

local lanes, groups = {}, redis.pcall("XINFO", "GROUPS", KEYS[1])
for _, group in ipairs(groups) do lanes[group[2]] = true end
local function has_way_back(lane) return not lane or lane == "" or groups.err or lanes[lane] end

local returned = 0
for at = 2, #ARGV do
  local letter = redis.call("XRANGE", KEYS[2], ARGV[at], ARGV[at])[1]
  local died, entry = {}, {}
  for field = 1, letter and #letter[2] or 0, 2 do died[letter[2][field]] = letter[2][field + 1] end
  if letter and has_way_back(died["lane"]) then
    local function carry(name, value)
      if not value or value == "" then return end
      entry[#entry + 1] = name
      entry[#entry + 1] = value
    end
    carry("type", died["type"])
    carry("lane", died["lane"])
    carry("origin", died["entry_id"])
    redis.call("XADD", KEYS[1], "*", "event", died["event"] or "", unpack(entry))
    redis.call("XDEL", KEYS[2], letter[1])
    returned = returned + 1
  end
end
return returned
