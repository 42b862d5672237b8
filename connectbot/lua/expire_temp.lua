-- Takes expired temporary data out of the index and publishes an event for each.
--
-- KEYS  1 temporary data by due time (sorted set)   2 stream of events
-- ARGV  for each: member, cache key, set of its namespace's keys, key, type of the event, its JSON, its channel
-- Returns the number of events published.
--
-- The cache key itself has the last word: what lives on was given more time by somebody who does not know the
-- index, and comes up again when that is over. Redis' own clock decides, not that of the caller.

local time = redis.call("TIME")
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local published = 0

for at = 1, #ARGV, 7 do
  local member, cached, siblings, key = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local due = redis.call("ZSCORE", KEYS[1], member)
  local left_ms = redis.call("PTTL", cached)
  if due and left_ms > 0 then
    redis.call("ZADD", KEYS[1], now + left_ms / 1000, member)
  elseif due and tonumber(due) <= now then
    redis.call("ZREM", KEYS[1], member)
    redis.call("SREM", siblings, key)
    if left_ms == -2 then
      redis.call("XADD", KEYS[2], "*", "type", ARGV[at + 4], "event", ARGV[at + 5])
      redis.call("PUBLISH", ARGV[at + 6], ARGV[at + 5])
      published = published + 1
    end
  end
end
return published
