-- Trims the stream, never above what the slowest lane still needs.
--
-- KEYS  1 stream of events
-- ARGV  1 finished entries to keep
-- Returns the number of entries removed.
--
-- A lane still needs its oldest pending entry, and all that was not delivered to it. "~" lets Redis remove whole
-- nodes only, which is cheap and leaves a few entries more than asked. By itself Redis would remove 10,000 entries
-- at a time, fewer than fast workers finish from one call to the next, so that publishers would find the stream full; a
-- hundred thousand take it 10 ms.

local keep = tonumber(ARGV[1])
if redis.call("XLEN", KEYS[1]) <= keep then return 0 end

local function earlier(a, b)
  local a_ms, a_seq = string.match(a, "(%d+)-(%d+)")
  local b_ms, b_seq = string.match(b, "(%d+)-(%d+)")
  if tonumber(a_ms) ~= tonumber(b_ms) then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_seq) < tonumber(b_seq)
end

local needed
for _, info in ipairs(redis.call("XINFO", "GROUPS", KEYS[1])) do
  local group = {}
  for at = 1, #info, 2 do group[info[at]] = info[at + 1] end
  local from = group["last-delivered-id"]
  if group["pending"] > 0 then from = redis.call("XPENDING", KEYS[1], group["name"])[2] end
  if not needed or earlier(from, needed) then needed = from end
end
if not needed or needed == "0-0" then return 0 end -- a lane that has read nothing yet needs all of it

-- Counting what is still needed reads up to `keep` entries, tens of milliseconds in which Redis serves nobody else. While
-- a lane lags behind there is little to remove, so it is not done for less than a tenth of that.
local worth = math.max(1, math.floor(keep / 10))
if #redis.call("XRANGE", KEYS[1], "-", "(" .. needed, "COUNT", worth) < worth then return 0 end

local behind = #redis.call("XRANGE", KEYS[1], needed, "+", "COUNT", keep + 1)
if behind > keep then
  return redis.call("XTRIM", KEYS[1], "MINID", "~", needed, "LIMIT", 100000)
end
return redis.call("XTRIM", KEYS[1], "MAXLEN", "~", keep, "LIMIT", 100000)
