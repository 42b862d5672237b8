-- Returns dead letters to the stream of events, each to the lane it died in, and takes them out of the dead ones.
--
-- KEYS  1 stream of events   2 stream of dead letters
-- ARGV  1 most entries the stream of events may hold   then the id of each dead letter
-- Returns the number returned, not counting those that are not there any more; -1 when there is no room for all of
-- them: then nothing was done.
--
-- Both happen in one step, so that an event replayed twice, or by two operators at once, comes back once. The letter
-- goes last: should adding the entry fail, it stays. The entry keeps the origin, so that what has become known of a
-- user since then stays newer, and it has no attempts.

local letters = {}
for at = 2, #ARGV do
  local letter = redis.call("XRANGE", KEYS[2], ARGV[at], ARGV[at])[1]
  if letter then letters[#letters + 1] = letter end
end
if #letters > 0 and redis.call("XLEN", KEYS[1]) + #letters > tonumber(ARGV[1]) then return -1 end

local returned = 0
for _, letter in ipairs(letters) do
  local died = {}
  for at = 1, #letter[2], 2 do died[letter[2][at]] = letter[2][at + 1] end
  local entry = {"event", died["event"] or ""}
  for name, value in pairs({type = died["type"], lane = died["lane"], origin = died["entry_id"]}) do
    if value ~= "" then
      entry[#entry + 1] = name
      entry[#entry + 1] = value
    end
  end
  if redis.call("EXISTS", KEYS[2]) == 1 and #redis.call("XRANGE", KEYS[2], letter[1], letter[1]) == 1 then
    redis.call("XADD", KEYS[1], "*", unpack(entry))
    redis.call("XDEL", KEYS[2], letter[1])
    returned = returned + 1
  end
end
return returned
