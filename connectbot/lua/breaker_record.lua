-- Takes a permit back, and notes how its call went; once, however often it is told.
--
-- ARGV  2 permit   3 "success", "failure", "cut_short" or "ignored"   4 how long the call took, in milliseconds
-- Returns the state afterwards. A call cut short by its request's deadline is ignored, unless it was slow by then.

if redis.call("ZREM", KEYS[5], ARGV[2]) == 0 then return state() end
local trial = redis.call("ZREM", KEYS[3], ARGV[2]) == 1
local now_state = state()
local half_open = now_state == "half_open"
local slow = tonumber(ARGV[4]) >= rules.slow_call_ms
local ignored = ARGV[3] == "ignored" or ARGV[3] == "cut_short" and not slow
if ignored or not (now_state == "closed" or half_open and trial) then return now_state end

local function count(letter, by)
  if string.lower(letter) == "f" then redis.call("HINCRBY", KEYS[1], "failures", by) end
  if string.upper(letter) == letter then redis.call("HINCRBY", KEYS[1], "slow", by) end
end

local letter = ARGV[3] == "failure" and "f" or "s"
if slow then letter = string.upper(letter) end
count(letter, 1)
local calls = redis.call("RPUSH", KEYS[2], letter)
local size = half_open and rules.permitted_calls or rules.window_size
if calls > size then
  count(redis.call("LPOP", KEYS[2]), -1)
  calls = calls - 1
end

local function rate(field)
  return (tonumber(redis.call("HGET", KEYS[1], field)) or 0) * 100 / calls
end

if calls < (half_open and size or rules.minimum_calls) then return now_state end
if rate("failures") >= rules.failure_rate or rate("slow") >= rules.slow_call_rate then
  enter("open")
elseif half_open then
  enter("closed")
end
return state()
