-- Connections to the Redis that holds the routes, by whichever client this nginx comes with:
-- Debian packs it as nginx.redis, OpenResty as resty.redis.

local found, client = pcall(require, "resty.redis")
if not found then
    client = require "nginx.redis"
end

local _M = {}

local IDLE_MS = 60000
local POOL = 64

local socket, host, port


-- `where` = { socket = path or "", host = …, port = … }
function _M.init(where)
    socket = where.socket ~= "" and "unix:" .. where.socket or nil
    host, port = where.host, where.port
end


-- `timeout` in ms is for the connect and then for each read and write.
function _M.connect(timeout)
    local redis, err = client:new()
    if not redis then
        return nil, err
    end
    redis:set_timeout(timeout)
    local ok
    if socket then
        ok, err = redis:connect(socket)
    else
        ok, err = redis:connect(host, port)
    end
    if not ok then
        return nil, err
    end
    return redis
end


-- Runs a Lua script in Redis. nil, error where Redis is away, or can't answer now (loading, read-only, out of memory).
function _M.eval(timeout, script, ...)
    local redis, reply, err
    -- A pooled connection may have died with a Redis that was restarted since: then a new one is worth a try.
    for _ = 1, 2 do
        redis, err = _M.connect(timeout)
        if not redis then
            return nil, err
        end
        local reused = redis:get_reused_times()
        reply, err = redis:eval(script, ...)
        if reply then
            redis:set_keepalive(IDLE_MS, POOL)
            return reply
        end
        redis:close()
        if reused == 0 or err == "timeout" then
            break
        end
    end
    return nil, err
end


return _M
