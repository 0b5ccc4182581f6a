-- Hears from Redis which routes changed: `version hostname` or `version *` on the channel. One light thread per nginx.

local redis = require "appoxy.redis"
local routes = require "appoxy.routes"

local exiting = ngx.worker.exiting
local match = string.match

local _M = {}

local CHANNEL = "appoxy:routes"
-- Bounds how long a worker that is told to exit waits for this thread, and how long a dead connection goes unnoticed.
local QUIET_MS = 1000
local FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 0.4
-- Longer than a wait and a connect that times out, so that visitors never wait for a Redis that this thread misses.
local DOWN_S = 2


local function take(reply)
    if reply[1] ~= "message" then
        return
    end
    local host = match(reply[3], "^%d+ (%S+)$")
    if host then
        routes.invalidate(host)
    else
        ngx.log(ngx.WARN, "not a route change: ", reply[3])
        routes.flush()
    end
end


-- Returns why it ended, and whether it had begun.
local function listen()
    local client, err = redis.connect(QUIET_MS)
    if not client then
        return err, false
    end
    local reply
    reply, err = client:subscribe(CHANNEL)
    if not reply then
        client:close()
        return err, false
    end
    -- What changed before this moment went unheard; what changes from now on is heard.
    routes.flush()
    routes.up()
    ngx.log(ngx.NOTICE, "subscribed to route changes")
    while not exiting() do
        reply, err = client:read_reply()
        if err == "timeout" then
            -- Subscribing again changes nothing but that Redis has to answer: a ping, which a subscribed client can't send.
            reply, err = client:subscribe(CHANNEL)
        end
        if not reply then
            client:close()
            return err, true
        end
        take(reply)
    end
    client:close()
    return "the worker exits", true
end


-- A new timer for each connection, since what a timer allocates is freed only when it ends.
local function run(premature, wait)
    if premature or exiting() then
        return
    end
    local ran, err, begun = pcall(listen)
    if exiting() then
        return
    end
    routes.down(DOWN_S)
    if not ran or begun then
        ngx.log(ngx.WARN, "route changes: ", err)
        wait = FIRST_WAIT_S
    end
    local ok
    ok, err = ngx.timer.at(wait, run, math.min(wait * 2, LONGEST_WAIT_S))
    if not ok and not exiting() then
        ngx.log(ngx.ERR, "route changes are no longer heard by this worker: ", err)
    end
end


-- init_worker_by_lua. Worker 0 listens for all, since the dicts are shared; if it crashes, nginx starts another worker 0.
function _M.start()
    if ngx.worker.id() == 0 then
        assert(ngx.timer.at(0, run, FIRST_WAIT_S))
    end
end


return _M
