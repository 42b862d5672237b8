-- Ends the registration of a consumer that goes in good order.
--
-- KEYS  1 stream of events   2 fences of the lane (hash)   3 lease of the consumer
-- ARGV  1 lane   2 consumer
-- Returns 1 when it leaves entries pending, else 0. An heir takes them over at once, now that the lease is gone.

redis.call("DEL", KEYS[3])
local pending = redis.pcall("XPENDING", KEYS[1], ARGV[1], "-", "+", 1, ARGV[2])
if pending.err or #pending == 0 then redis.call("HDEL", KEYS[2], ARGV[2]) end
if pending.err then return 0 end -- somebody has emptied Redis: the group is gone, with all that was pending
if #pending == 0 then redis.call("XGROUP", "DELCONSUMER", KEYS[1], ARGV[1], ARGV[2]) end
return #pending
