-- Setting many values of the cache that live equally long. Put in front of a script.

-- Redis 8.4 and Valkey 9.1 set many by one command, in two thirds of the time; whoever runs the script must have the
-- right to. Others set one after the other. Only Redis from 7.0 on can be asked, and raises an error when it has no such
-- command.
local function has_msetex(key)
  local can_be_asked, may = pcall(redis.acl_check_cmd, "MSETEX", 1, key, "")
  return can_be_asked and may
end

-- What sets values to live for so many ms: call it with each key and value, and once more without when there are no more.
-- The first key stands for all of them where it is asked whether they may be set.
local function setter(lifetime, first_key)
  if not has_msetex(first_key) then
    return function(key, value)
      if key then redis.call("SET", key, value, "PX", lifetime) end
    end
  end
  local words, count = {}, 0
  return function(key, value)
    if key then
      words[count + 1], words[count + 2] = key, value
      count = count + 2
    end
    if count == 100 or count > 0 and not key then
      words[count + 1], words[count + 2] = "PX", lifetime
      redis.call("MSETEX", count / 2, unpack(words, 1, count + 2))
      count = 0
    end
  end
end

