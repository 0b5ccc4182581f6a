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
        local digits = ffi.new("char[2]", string.format("%02x", i))
        pairs_of_digits[i] = ffi.cast("uint16_t *", digits)[0]
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
    for i = 0, 3 do
        id[i] = pairs_of_digits[band(low, 255)]
        id[i + 4] = pairs_of_digits[band(high, 255)]
        low, high = rshift(low, 8), rshift(high, 8)
    end
    return str(id, 32)
end


return _M
