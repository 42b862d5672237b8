-- Gives a permit for one call, or says what to do instead.
--
-- ARGV  2 permit   3 milliseconds after which it lapses   4 name under which the job was parked, or ""
-- Returns {"go", 0}, {"park", 0}, or {"wait", milliseconds}.
--
-- A job that comes while others are parked is parked, too, and has its turn (aside.py): the oldest goes first, but for
-- those that failed. What was parked and is released passes. The rate is kept by GCRA: one time stamp says until when
-- it is used up.

if ARGV[4] ~= "" then redis.call("ZREM", KEYS[9], ARGV[4]) end

local now_state = state()
if now_state == "open" or now_state == "forced_open" then return {"park", 0} end
if ARGV[4] == "" and redis.call("ZCARD", KEYS[7]) > 0 then return {"park", 0} end
if now_state == "half_open" and trials_left() <= 0 then return {"park", 0} end

if alive(KEYS[5]) >= rules.max_concurrent then return {"wait", 5} end

local interval = 1000 / rules.rate
local used_up = math.max(tonumber(redis.call("GET", KEYS[6])) or 0, now_ms)
-- Later than a call can make it, it is only when the clock was set back.
if used_up > now_ms + rules.burst_ms + interval + 1 then used_up = now_ms end
local early = used_up - now_ms - rules.burst_ms
if early > 0 then return {"wait", math.ceil(early)} end
redis.call("SET", KEYS[6], string.format("%.3f", used_up + interval), "PX", math.ceil(used_up + interval - now_ms) + 1)

if tonumber(ARGV[3]) > (tonumber(redis.call("HGET", KEYS[1], "longest_ms")) or 0) then
  redis.call("HSET", KEYS[1], "longest_ms", ARGV[3])
end
local lapses = string.format("%.0f", now_ms + ARGV[3])
redis.call("ZADD", KEYS[5], lapses, ARGV[2])
if now_state == "half_open" then redis.call("ZADD", KEYS[3], lapses, ARGV[2]) end
return {"go", 0}
