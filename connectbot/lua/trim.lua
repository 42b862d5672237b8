-- Trims the stream, never above what the slowest lane still needs.
--
-- KEYS  1 stream of events
-- ARGV  1 finished entries to keep
-- Returns the number of entries removed.
--
-- A lane still needs its oldest pending entry, and all that was not delivered to it. "~" lets Redis remove whole
-- nodes only, which is cheap and leaves a few entries more than asked. LIMIT is what keeps the newest: no more is removed
-- than there are too many. By itself Redis would remove 10,000 entries at a time, fewer than fast workers finish from one
-- call to the next, so that publishers would find the stream full; a hundred thousand take it 10 ms.

local surplus = redis.call("XLEN", KEYS[1]) - tonumber(ARGV[1])
if surplus <= 0 then return 0 end

-- As text of equal length: Lua's numbers cannot tell ids apart that somebody made of nanoseconds.
local function padded(id)
  local ms, seq = string.match(id, "(%d+)-(%d+)")
  return string.rep("0", 20 - #ms) .. ms .. string.rep("0", 20 - #seq) .. seq
end

local needed
for _, info in ipairs(redis.call("XINFO", "GROUPS", KEYS[1])) do
  local group = {}
  for at = 1, #info, 2 do group[info[at]] = info[at + 1] end
  local from = group["last-delivered-id"]
  if group["pending"] > 0 then from = redis.call("XPENDING", KEYS[1], group["name"])[2] end
  if not needed or padded(from) < padded(needed) then needed = from end
end
if not needed or needed == "0-0" then return 0 end -- a lane that has read nothing yet needs all of it

return redis.call("XTRIM", KEYS[1], "MINID", "~", needed, "LIMIT", math.min(surplus, 100000))
