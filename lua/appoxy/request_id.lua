-- Ids of requests, 32 hex digits as nginx's $request_id has, which asks OpenSSL for each one's randomness and so takes longer than
-- all else that is decided here. These are never the same twice, but they are no secrets: whoever knows many may tell the next.

local bit = require "bit"
local ffi = require "ffi"

local band, bxor, rshift = bit.band, bit.bxor, bit.rshift
local str, tonumber = ffi.string, tonumber

local _M = {}

local MIX = 0x9e3779b97f4a7c15ULL

local pairs_of_digits = ffi.new("uint16_t[256]")
local id = ffi.new("uint16_t[16]")
local key, count


-- Each worker draws its own, so that those forked from one master differ.
local function draw()
    local file = assert(io.open("/dev/urandom", "rb"))
    file:setvbuf("no")  -- with a buffer it would read far more than it needs
    local bytes = file:read(24)
    file:close()
    local words = ffi.new("uint64_t[3]")
    ffi.copy(words, bytes, 24)
    key, count = words[0], words[1]
    for i = 0, 255 do
        pairs_of_digits[i] = ffi.cast("const uint16_t *", string.format("%02x", i))[0]
    end
    local worker = words[2]
    for i = 8, 15 do
        id[i] = pairs_of_digits[tonumber(band(worker, 255))]
        worker = rshift(worker, 8)
    end
end


function _M.next()
    if not key then
        draw()
    end
    count = count + 1
    local word = bxor(count, key) * MIX
    word = bxor(word, rshift(word, 32)) * MIX
    word = bxor(word, rshift(word, 29))
    local low, high = tonumber(band(word, 0xffffffffULL)), tonumber(rshift(word, 32))
    -- A loop in the path of each request would be compiled apart from it.
    id[0], id[1] = pairs_of_digits[band(low, 255)], pairs_of_digits[band(rshift(low, 8), 255)]
    id[2], id[3] = pairs_of_digits[band(rshift(low, 16), 255)], pairs_of_digits[rshift(low, 24)]
    id[4], id[5] = pairs_of_digits[band(high, 255)], pairs_of_digits[band(rshift(high, 8), 255)]
    id[6], id[7] = pairs_of_digits[band(rshift(high, 16), 255)], pairs_of_digits[rshift(high, 24)]
    return str(id, 32)
end


return _M
