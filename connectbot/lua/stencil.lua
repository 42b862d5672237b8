-- Stencils (see `Stencil` in connectbot/cache.py): a value of the cache but for the user's id. Put in front of a script.

local byte, pack = string.byte, struct.pack

-- How the stencil whose six words begin there is filled in with an id. At the value's end comes the Adler-32 that follows
-- from the one with zeros for the id. The first ten digits are written out: a loop over them takes as long as the rest.
local function filling(at)
  local first, second, third = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local low, high, weight = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  return function(id)
    local a, b, c, d, e, f, g, h, i, j = byte(id, 1, 10)
    b, c, d, e, f, g, h, i, j =
      b or 48, c or 48, d or 48, e or 48, f or 48, g or 48, h or 48, i or 48, j or 48
    local sum = a + b + c + d + e + f + g + h + i + j - 10 * 48
    local weighed = a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j - 55 * 48
    for nth = 11, #id do
      local digit = byte(id, nth) - 48
      sum = sum + digit
      weighed = weighed + nth * digit
    end
    local adler = pack(">I2I2", (high + weight * sum - 2 * weighed) % 65521, (low + 2 * sum) % 65521)
    return first .. id .. second .. id .. third .. adler
  end
end

