-- Stencils (see `Stencil` in connectbot/cache.py): a value of the cache but for the user's id. Put in front of a script.

local function read_stencil(at)
  return {
    ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]),
  }
end

-- The value with the id in it, and at its end the Adler-32 that follows from the one with zeros for the id.
local function fill_in(stencil, id)
  local bytes, sum, weighed = {string.byte(id, 1, -1)}, 0, 0
  for nth = 1, #bytes do
    local digit = bytes[nth] - 48
    sum = sum + digit
    weighed = weighed + nth * digit
  end
  local low, high = stencil[4] + 2 * sum, stencil[5] + stencil[6] * sum - 2 * weighed
  return stencil[1] .. id .. stencil[2] .. id .. stencil[3] .. struct.pack(">I2I2", high % 65521, low % 65521)
end

