-- Returns parked entries to the stream: those whose deadline has come, and, by turns and on a ramp, as many as the
-- service may be asked; and says whether its health is to be looked at.
--
-- ARGV  2 prefix of the keys that hold the fields of parked entries (hashes)   3 most entries to release
--       4 milliseconds for which a released entry is waited for   5 milliseconds that a look at health may take
-- Returns {1 when the caller is the one to look, entries released, entries still parked}.
--
-- The ramp begins, when the state changes, with as many calls a second as are permitted in half-open, and doubles each
-- second up to the rate. What was released and has not asked for a permit yet counts against what may be released.

local most, released = tonumber(ARGV[3]), 0

local function release(member)
  local held = ARGV[2] .. member
  local fields = redis.call("HGETALL", held)
  if #fields > 0 then redis.call("XADD", KEYS[10], "*", unpack(fields)) end
  redis.call("DEL", held)
  redis.call("ZREM", KEYS[7], member)
  redis.call("ZREM", KEYS[8], member)
  released = released + 1
end

for _, member in ipairs(redis.call("ZRANGEBYSCORE", KEYS[8], "-inf", now_ms / 1000, "LIMIT", 0, most)) do
  release(member)
end

local function room(now_state)
  local under_way = alive(KEYS[9])
  if now_state == "half_open" then
    return trials_left() - under_way
  end
  local per_second = math.min(rules.rate, rules.permitted_calls * 2 ^ math.min(since_ms("since_ms") / 1000, 30))
  local allowed = math.floor(math.min(since_ms("ramp_ms") / 1000 * per_second, math.max(per_second, 1)))
  return math.min(allowed, 4 * rules.max_concurrent - under_way)
end

local now_state, look = state(), 0
if now_state == "open" and since_ms("since_ms") >= rules.wait_ms then
  look = redis.call("SET", KEYS[4], 1, "NX", "PX", ARGV[5]) and 1 or 0
elseif (now_state == "closed" or now_state == "half_open") and redis.call("ZCARD", KEYS[7]) > 0 then
  local many = math.min(room(now_state), most)
  if many > 0 then
    for _, member in ipairs(redis.call("ZRANGE", KEYS[7], 0, many - 1)) do
      redis.call("ZADD", KEYS[9], string.format("%.0f", now_ms + ARGV[4]), member)
      release(member)
    end
    redis.call("HSET", KEYS[1], "ramp_ms", string.format("%.0f", now_ms))
  end
end
return {look, released, redis.call("ZCARD", KEYS[7])}
