-- Moves entries of dead consumers of one lane to an heir. Atomic: an entry finds exactly one heir.
--
-- KEYS  1 stream of events   2 fences of the lane (hash)
-- ARGV  1 lane   2 heir   3 prefix of lease keys   4 most entries to move
-- Returns two lists: the consumers whose fence fell in this call; the entries moved, each as
-- {id, {field, value, ...}, number that Redis keeps with it}, one more now for the delivery to the heir.
--
-- Taking the fence away comes first: from then on the dead one's commits are refused, even if only a part of
-- its entries could be moved in this call. What remains is found by the next call, through the group itself.

local lane, heir, lease_prefix, room = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local fallen, moved = {}, {}

local function move(name)
  local pending = redis.call("XPENDING", KEYS[1], lane, "-", "+", room, name)
  for _, row in ipairs(pending) do
    local id, counted = row[1], row[4] + 1
    local entry = redis.call("XCLAIM", KEYS[1], lane, heir, 0, id)[1]
    if entry then
      moved[#moved + 1] = {entry[1], entry[2], counted}
    else
      redis.call("XACK", KEYS[1], lane, id) -- deleted from the stream by somebody: nothing is left to do
    end
  end
  room = room - #pending
end

for _, info in ipairs(redis.call("XINFO", "CONSUMERS", KEYS[1], lane)) do
  local consumer = {}
  for at = 1, #info, 2 do consumer[info[at]] = info[at + 1] end
  local name = consumer["name"]
  if name ~= heir and redis.call("EXISTS", lease_prefix .. name) == 0 then
    if redis.call("HDEL", KEYS[2], name) == 1 then fallen[#fallen + 1] = name end
    if consumer["pending"] == 0 then
      redis.call("XGROUP", "DELCONSUMER", KEYS[1], lane, name)
    elseif room > 0 then
      move(name)
    end
  end
end
return {fallen, moved}
