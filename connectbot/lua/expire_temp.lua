-- Takes expired temporary data out of the index and publishes an event for each.
--
-- KEYS  1 temporary data by due time (sorted set)   2 stream of events
-- ARGV  1 type of the events
--       for each: member, cache key, set of its namespace's keys, key, JSON of the event, its channel
-- Returns the number of events published.
--
-- The cache key itself has the last word: what lives on was given more time by somebody who does not know the
-- index, and comes up again when that is over. Redis' own clock decides, not that of the caller.

local call, time = redis.call, redis.call("TIME")
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local members, gone, published = {}, {}, 0

for at = 2, #ARGV, 6 do members[#members + 1] = ARGV[at] end
for nth, due in ipairs(#members > 0 and call("ZMSCORE", KEYS[1], unpack(members)) or {}) do
  local at = 6 * nth - 4
  local left_ms = due and call("PTTL", ARGV[at + 1])
  if due and left_ms >= 0 then -- at 0 it is in its last millisecond, and not gone yet
    call("ZADD", KEYS[1], now + left_ms / 1000, ARGV[at])
  elseif due and tonumber(due) <= now then
    gone[#gone + 1] = ARGV[at]
    call("SREM", ARGV[at + 2], ARGV[at + 3])
    if left_ms == -2 then
      call("XADD", KEYS[2], "*", "type", ARGV[1], "event", ARGV[at + 4])
      call("PUBLISH", ARGV[at + 5], ARGV[at + 4])
      published = published + 1
    end
  end
end
if #gone > 0 then call("ZREM", KEYS[1], unpack(gone)) end
return published
