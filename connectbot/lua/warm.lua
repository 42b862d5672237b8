-- Writes the warm menus of some users anew: the next ones in the hash of users, or those whose menus run out.
--
-- KEYS  1 users (hash)   2 when their menus run out (sorted set)
-- ARGV  1 "after" | "before"   2 where to go on ("" = at the beginning) | until when menus run out, in epoch seconds
--       3 about how many users   4 when the new menus run out, in epoch seconds   5 how long they live, in ms
--       6 what their keys begin with   7 number of menus of a user   then what their keys end with
--       then any number of stencils:  role, length of the user's id,
--            for each menu: its stencil, six words (stencil.lua, which stands before this script)
-- Returns {1 when it began at the beginning, where to go on ("" = nowhere), users done with, known users,
--          {role and length of each stencil that is missing}}. When one is missing, repeat the call with it.
--
-- All that menus differ in is read and written in one step: nothing newer can be overwritten. A place in the hash means
-- something to the server that named it only; another one begins anew.

local menus, endings, stencils = tonumber(ARGV[7]), {}, {}
for menu = 1, menus do endings[menu] = ARGV[7 + menu] end
for at = 8 + menus, #ARGV, 2 + 6 * menus do
  local role, length, made = ARGV[at], tonumber(ARGV[at + 1]), {}
  for menu = 1, menus do made[menu] = read_stencil(at + 6 * menu - 4) end
  stencils[role] = stencils[role] or {}
  stencils[role][length] = made
end

local function users_after(place)
  local server = string.match(redis.call("INFO", "server"), "run_id:(%w+)")
  local named, cursor = string.match(place, "^(%w+):(%d+)$")
  if named ~= server then cursor = "0" end
  local found = redis.call("HSCAN", KEYS[1], cursor, "COUNT", ARGV[3])
  return found[2], found[1] == "0" and "" or server .. ":" .. found[1], cursor == "0" and 1 or 0
end

local function users_before(time)
  local ids = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", "(" .. time, "LIMIT", 0, ARGV[3])
  if #ids == 0 then return {}, "", 0 end
  local rows, strangers = {}, {}
  for nth, record in ipairs(redis.call("HMGET", KEYS[1], unpack(ids))) do
    local found = record and string.find(record, " ", 1, true) and rows or strangers
    found[#found + 1] = ids[nth]
    if found == rows then found[#found + 1] = record end
  end
  if #strangers > 0 then redis.call("ZREM", KEYS[2], unpack(strangers)) end
  return rows, time, 0
end

local function write(id, made)
  for nth = 1, menus do redis.call("SET", ARGV[6] .. id .. endings[nth], fill_in(made[nth], id), "PX", ARGV[5]) end
end

local rows, place, from_beginning = (ARGV[1] == "after" and users_after or users_before)(ARGV[2])
local noted, missing, named = {}, {}, {}
for at = 1, #rows, 2 do
  local id, role = rows[at], string.match(rows[at + 1], " (.*)") or ""
  local made = stencils[role] and stencils[role][#id]
  if made then
    write(id, made)
    noted[#noted + 1] = ARGV[4]
    noted[#noted + 1] = id
  elseif role ~= "" and not named[role .. #id] then
    named[role .. #id] = true
    missing[#missing + 1] = role
    missing[#missing + 1] = #id
  end
end
for from = 1, #noted, 2000 do redis.call("ZADD", KEYS[2], unpack(noted, from, math.min(from + 1999, #noted))) end

local done = #noted / 2
if ARGV[1] == "after" then done = #missing > 0 and 0 or #rows / 2 end
return {from_beginning, place, done, redis.call("HLEN", KEYS[1]), missing}
