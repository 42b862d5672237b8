-- Says what is to be done with a matching request, and claims it for the entry that came with it.
--
-- KEYS  1 claim of the request   2 mark that it was answered   3 request in flight with the same question
--       4 result as it is kept
-- ARGV  1 entry in which the request first came   2 when that was, in epoch milliseconds   3 request
--       4 seconds for which a claim holds
-- Returns {what, request, seconds, microseconds}: the time is that of this server. What is "mine"; "doubled" when another
-- entry brought, or has brought, the same request; "twin" when another request with the same question is in flight;
-- "answered" when that one was answered meanwhile. The request is the other one, where there is one.
--
-- A request that was answered, and whose result somebody has removed since, is asked anew.
--
-- The third key holds the request, and after a space, once it is answered, when that was, in epoch milliseconds: who
-- came earlier than that had a twin in flight; who came later is a new wish.

local time = redis.call("TIME")
local function said(what, request) return {what, request or "", time[1], time[2]} end

if redis.call("EXISTS", KEYS[2]) == 1 then
  if redis.call("EXISTS", KEYS[4]) == 1 then return said("doubled") end
  redis.call("DEL", KEYS[1], KEYS[2])
end
local claimed = redis.call("GET", KEYS[1])
if claimed and claimed ~= ARGV[1] then return said("doubled") end

local held = redis.call("GET", KEYS[3])
if held then
  local request, answered_ms = string.match(held, "^(%S+) ?(%d*)$")
  if request and request ~= ARGV[3] then
    if answered_ms == "" then return said("twin", request) end
    if tonumber(ARGV[2]) < tonumber(answered_ms) then return said("answered", request) end
  end
end

redis.call("SET", KEYS[1], ARGV[1], "EX", ARGV[4])
redis.call("SET", KEYS[3], ARGV[3], "EX", ARGV[4])
return said("mine")
