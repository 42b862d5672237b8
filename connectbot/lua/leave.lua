-- Ends the registration of a consumer that goes in good order.
--
-- KEYS  1 stream of events   2 fences of the lane (hash)   3 lease of the consumer
-- ARGV  1 lane   2 consumer
-- Returns 1 when it leaves entries pending, else 0. An heir takes them over at once, now that the lease is gone.

local pending = redis.call("XPENDING", KEYS[1], ARGV[1], "-", "+", 1, ARGV[2])
redis.call("DEL", KEYS[3])
if #pending == 0 then
  redis.call("HDEL", KEYS[2], ARGV[2])
  redis.call("XGROUP", "DELCONSUMER", KEYS[1], ARGV[1], ARGV[2])
end
return #pending
