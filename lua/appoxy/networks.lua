-- Whether an address is in one of some networks:
--
--   local list = networks.parse { "10.0.0.0/8", "2001:db8::/32" }
--   networks.contain(list, ngx.var.binary_remote_addr)

local bit = require "bit"
local ffi = require "ffi"

local byte, sub = string.byte, string.sub

ffi.cdef[[int inet_pton(int af, const char *src, void *dst);]]

local _M = {}

local AF_INET, AF_INET6 = 2, 10  -- Linux
local MAPPED = "\0\0\0\0\0\0\0\0\0\0\255\255"  -- IPv4 within IPv6

local buffer = ffi.new("unsigned char[16]")


-- Networks that can't be read match nobody.
function _M.parse(texts)
    local list = {}
    for _, text in ipairs(texts) do
        local address, length = string.match(text, "^([%x:.]+)/(%d+)$")
        local v6 = address and string.find(address, ":", 1, true)
        local size = v6 and 16 or 4
        if address and tonumber(length) <= 8 * size and ffi.C.inet_pton(v6 and AF_INET6 or AF_INET, address, buffer) == 1 then
            local bytes = ffi.string(buffer, size)
            local whole = math.floor(length / 8)
            local rest = length % 8
            list[#list + 1] = {
                size = size,
                whole = whole,
                prefix = sub(bytes, 1, whole),
                shift = rest > 0 and 8 - rest or nil,
                last = rest > 0 and bit.rshift(byte(bytes, whole + 1), 8 - rest) or nil,
            }
        else
            ngx.log(ngx.ERR, "not a network: ", text)
        end
    end
    return list
end


-- `address` is 4 or 16 bytes.
function _M.contain(list, address)
    if #address == 16 and sub(address, 1, 12) == MAPPED then
        address = sub(address, 13)
    end
    for i = 1, #list do
        local net = list[i]
        if net.size == #address and sub(address, 1, net.whole) == net.prefix
            and (not net.shift or bit.rshift(byte(address, net.whole + 1), net.shift) == net.last) then
            return true
        end
    end
    return false
end


-- What counts as one client: an IPv4 address, or the /64 that an IPv6 client has for itself.
function _M.client(address)
    return #address == 16 and sub(address, 1, 8) or address
end


return _M
