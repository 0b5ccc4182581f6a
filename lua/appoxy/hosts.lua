-- What a hostname says by itself, before any dict is asked:
--
--   hosts.init("example.com", { "ds1", "ds2" })
--   hosts.read("shop.example.org")         --> { name = "shop.example.org" }
--   hosts.read("abcdefg.ds1.example.com")  --> { name = "abcdefg.ds1.example.com", uid = "abcdefg", server = "ds1" }
--   hosts.read("no_host")                  --> false

local lrucache = require "resty.lrucache"

local find, match, sub = string.find, string.match, string.sub

local _M = {}

local MAX_BYTES = 253

-- A worker reads the same hosts again and again; a bounded cache keeps the string work off the hot path. It can't be
-- outdated, since the answer follows from the host and from settings, which change with a reload only.
local seen
local suffix
local servers


function _M.init(domain, names)
    seen = lrucache.new(10000)
    suffix = "." .. domain
    servers = {}
    for _, name in ipairs(names) do
        servers[name] = true
    end
end


function _M.is_uid(text)
    return #text == 7 and find(text, "^[a-z][a-z2-7]+$") ~= nil
end


-- Whether this nginx has an upstream for the server.
function _M.is_server(name)
    return servers[name] == true
end


local function parse(text)
    local name = sub(text, -1) == "." and sub(text, 1, -2) or text
    if name == "" or #name > MAX_BYTES or find(name, "[^a-z0-9.-]") then
        return false
    end
    if sub(name, -#suffix) == suffix then
        local labels = sub(name, 1, -#suffix - 1)
        local uid, server = match(labels, "^([a-z2-7]+)%.([a-z0-9-]+)$")
        if not uid then
            uid, server = match(labels, "^([a-z2-7]+)%.%d+%.([a-z0-9-]+)$")
        end
        if uid and servers[server] and _M.is_uid(uid) then
            return { name = name, uid = uid, server = server }
        end
    end
    return { name = name }
end


-- Whether the host names droid and server by itself, whatever the routes say.
function _M.is_direct(name)
    if sub(name, -#suffix) ~= suffix then
        return false
    end
    local host = parse(name)
    return host and host.server ~= nil
end


-- `text` is nginx's $host (lower case, without a port) or looks like it. False for what is no hostname.
function _M.read(text)
    local host = seen:get(text)
    if host == nil then
        host = parse(text)
        seen:set(text, host)
    end
    return host
end


return _M
