-- Writes the warm menus of some users anew: the next ones in the hash of users, or those whose menus run out.
--
-- KEYS  1 users (hash)   2 whose menus run out when (sorted set)   3 whose menus were removed on purpose when (hash)
--       4 where this walk goes on (string)
-- ARGV  1 "after" | "before"
--       2 where to go on ("" = at the beginning, "next" = where the call before has left off)
--         | until when menus run out, in epoch seconds
--       3 about how many users   4 when the new menus run out, in epoch seconds   5 how long they live, in ms
--       6 in how many ms menus run out   7 what their keys begin with   8 number of menus of a user
--       then what their keys end with
--       then any number of stencils:  role, length of the user's id,
--            for each menu: its stencil, six words (stencil.lua; it and set_values.lua stand before this script)
-- Returns {1 when it began at the beginning, where to go on ("" = nowhere), users done with, known users,
--          {role and length of each stencil that is missing}}. When one is missing, nothing was done: repeat the call
--          with it.
--
-- "next" lets a call be sent before the one before is answered. After the last page there is nothing to be done. When
-- nobody knows any more where the call before has left off, the walk begins anew.
--
-- All that menus differ in is read and written in one step: nothing newer can be overwritten. A place in the hash means
-- something to the server that named it only; another one begins anew.
--
-- Who was written together stands together in the sorted set, as one text: it may name users whose menus were written
-- again since, and who stand in a later text, too. So the menus themselves are asked how long they live. And it may name
-- users whose menus were removed on purpose since they were written: these stay away.

local call, sub = redis.call, string.sub
local menus, endings, fills = tonumber(ARGV[8]), {}, {}
for menu = 1, menus do endings[menu] = ARGV[8 + menu] end
for at = 9 + menus, #ARGV, 2 + 6 * menus do
  local role, length, made = ARGV[at], tonumber(ARGV[at + 1]), {}
  for menu = 1, menus do made[menu] = filling(at + 6 * menu - 4) end
  fills[role] = fills[role] or {}
  fills[role][length] = made
end

local function users_after(place)
  if place == "end" then return {}, "", 0 end
  local server = string.match(call("INFO", "server"), "run_id:(%w+)")
  local named, cursor = string.match(place, "^(%w+):(%d+)$")
  if named ~= server then cursor = "0" end
  local found = call("HSCAN", KEYS[1], cursor, "COUNT", ARGV[3])
  return found[2], found[1] == "0" and "" or server .. ":" .. found[1], cursor == "0" and 1 or 0
end

local any_is_cleared = call("EXISTS", KEYS[3]) == 1

local function runs_out(id, time)
  local cleared = any_is_cleared and call("HGET", KEYS[3], id)
  if cleared and tonumber(cleared) >= time - tonumber(ARGV[5]) / 1000 then return false end
  for menu = 1, menus do
    local left = call("PTTL", ARGV[7] .. id .. endings[menu]) -- -1: it never does; -2: it has
    if left == -2 or (left >= 0 and left < tonumber(ARGV[6])) then return true end
  end
  return false
end

-- The texts of those whose menus were to run out before, and the users in them whose menus do. Some texts are asked for
-- at once: one may hold 500 users, but a thousand may hold one each.
local function listed_before(time)
  local texts, ids, is_there, looked_at, most = {}, {}, {}, 0, tonumber(ARGV[3])
  repeat
    local more = call("ZRANGEBYSCORE", KEYS[2], "-inf", "(" .. time, "WITHSCORES", "LIMIT", #texts, 20)
    for nth = 1, #more, 2 do
      if looked_at >= most then break end
      texts[#texts + 1] = more[nth]
      for id in string.gmatch(more[nth], "%S+") do
        looked_at = looked_at + 1
        if not is_there[id] and runs_out(id, tonumber(more[nth + 1])) then
          is_there[id] = true
          ids[#ids + 1] = id
        end
      end
    end
  until #more == 0 or looked_at >= most
  return texts, ids
end

local function users_before(time)
  local texts, ids = listed_before(time)
  local rows = {}
  for nth, record in ipairs(#ids > 0 and call("HMGET", KEYS[1], unpack(ids)) or {}) do
    if record then
      rows[#rows + 1] = ids[nth]
      rows[#rows + 1] = record
    end
  end
  return rows, #texts > 0 and time or "", 0, texts
end

local function role_in(record)
  if string.byte(record, 36) == 32 then return sub(record, 37) end -- as long as nearly every version is, and quicker
  return string.match(record, " (.*)")
end

local is_walk, from = ARGV[1] == "after", ARGV[2]
if from == "next" then from = call("GET", KEYS[4]) or "" end

local function go_on(at)
  if is_walk then call("SET", KEYS[4], at, "PX", 60000) end
end

local rows, place, from_beginning, texts = (is_walk and users_after or users_before)(from)
local made_for, missing, named = {}, {}, {}
for at = 1, #rows, 2 do
  local id, role = rows[at], role_in(rows[at + 1])
  local made = role and fills[role] and fills[role][#id]
  made_for[at] = made
  if role and not made and not named[role .. #id] then
    named[role .. #id] = true
    missing[#missing + 1] = role
    missing[#missing + 1] = #id
  end
end
if #missing > 0 then
  go_on(from)
  return {from_beginning, place, 0, call("HLEN", KEYS[1]), missing}
end

local written, set = {}, setter(ARGV[5], ARGV[7])
for at = 1, #rows, 2 do
  local id, made = rows[at], made_for[at]
  if made then
    for menu = 1, menus do set(ARGV[7] .. id .. endings[menu], made[menu](id)) end
    written[#written + 1] = id
  end
end
set()
if texts and #texts > 0 then call("ZREM", KEYS[2], unpack(texts)) end
if #written > 0 then call("ZADD", KEYS[2], ARGV[4], table.concat(written, " ")) end
go_on(place == "" and "end" or place)
return {from_beginning, place, is_walk and #rows / 2 or #written, call("HLEN", KEYS[1]), missing}
