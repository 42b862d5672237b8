-- What the scripts of the circuit breaker share: it is put before each of them.
--
-- KEYS  1 breaker (hash)   2 window (list)   3 trials (sorted set)   4 probe (string)
--       5 permits (sorted set)   6 rate (string)
--       7 parked (sorted set)   8 deadlines of the parked (sorted set)   9 released (sorted set)   10 stream of events
-- ARGV  1 rules (JSON, see circuit_breaker.py)   then those of the script
--
-- The window holds a letter a call: s for a success and f for a failure, S and F where it was slow. Redis' own clock
-- is the only one that counts.

local rules = cjson.decode(ARGV[1])
local clock = redis.call("TIME")
local now_ms = clock[1] * 1000 + clock[2] / 1000

local function state()
  return redis.call("HGET", KEYS[1], "state") or "closed"
end

local function since_ms(field)
  local at = tonumber(redis.call("HGET", KEYS[1], field)) or 0
  if at > now_ms then -- the clock was set back: begin anew, instead of waiting until it is there again
    at = now_ms
    redis.call("HSET", KEYS[1], field, string.format("%.0f", now_ms))
  end
  return now_ms - at
end

local function enter(new)
  redis.call("HSET", KEYS[1], "state", new, "since_ms", string.format("%.0f", now_ms),
    "ramp_ms", string.format("%.0f", now_ms), "failures", 0, "slow", 0)
  if new == "open" then redis.call("HINCRBY", KEYS[1], "opened", 1) end
  redis.call("DEL", KEYS[2], KEYS[3])
end

-- What lapses later than anything could that was given now, is from before the clock was set back.
local function alive(key)
  local longest_ms = math.max(tonumber(redis.call("HGET", KEYS[1], "longest_ms")) or 0, 60000)
  redis.call("ZREMRANGEBYSCORE", key, "-inf", now_ms)
  redis.call("ZREMRANGEBYSCORE", key, "(" .. string.format("%.0f", now_ms + longest_ms + 1), "+inf")
  return redis.call("ZCARD", key)
end

-- How many more calls half-open permits. Should calls enough be there already, as when a worker with a lower number in
-- its rules has come, it takes one more to decide.
local function trials_left()
  local made = math.min(redis.call("LLEN", KEYS[2]), rules.permitted_calls - 1)
  return rules.permitted_calls - made - alive(KEYS[3])
end
