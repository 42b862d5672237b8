-- Notes what a look at the service's health has shown.
--
-- ARGV  2 "1" when the service is well, else "0"
-- Returns the state afterwards: half_open when it is well and the breaker was open.

redis.call("DEL", KEYS[4])
if state() == "open" then
  if ARGV[2] == "1" then
    enter("half_open")
  else
    redis.call("HSET", KEYS[1], "since_ms", string.format("%.0f", now_ms))
  end
end
return state()
