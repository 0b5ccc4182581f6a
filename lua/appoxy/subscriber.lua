-- Keeps the routes in memory as Redis has them. One worker per nginx hears on the channel which routes changed (`version hostname`,
-- or `version *` for any), reads those from Redis and writes them to the memory that all workers share.
--
-- What it missed while it was cut off it catches up with by the list of the newest changes. Where that does not reach back, the
-- epoch ends: all routes are stale until a scan, beside the visitors, has read every one of them.

local options = require "appoxy.options"
local redis = require "appoxy.redis"
local route_table = require "appoxy.route_table"
local routes = require "appoxy.routes"

local exiting = ngx.worker.exiting
local format, match = string.format, string.match

local _M = {}

local CHANNEL = "appoxy:routes"
local VERSION, ROUTES, CHANGES = "appoxy:routes:version", "appoxy:routes", "appoxy:routes:changes"
local OPTIONS = "appoxy:options"
-- Bounds how long a worker that is told to exit waits for this thread, and how long a dead connection goes unnoticed.
local QUIET_MS = 1000
local FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 0.4
-- Longer than a wait and a connect that times out, so that visitors never wait for a Redis that this thread misses.
local DOWN_S = 2
-- Long pieces keep Redis and this worker from their visitors.
local CHANGES_AT_ONCE, ROUTES_AT_ONCE, SLOTS_AT_ONCE = 500, 500, 16384
local OPTIONS_AT_ONCE = 50  -- of up to 100 kB each
-- Not 0: without OpenResty's patches nginx would run a timer again and again before it looks at any socket.
local BREATH_S = 0.001

-- Answers nothing (no version: not to be relied on), or the version and: how far the changes that follow reach, their hosts and
-- routes; false where the list does not reach back.
local CATCH_UP = [[
local now, last = redis.call('GET', KEYS[1]), tonumber(ARGV[1])
if not now then
    return {}
end
if tonumber(now) == last then
    return { now, now, {}, {} }
end
local oldest = tonumber(string.match(redis.call('LINDEX', KEYS[3], 0) or '', '^%d+'))
if not oldest or oldest > last + 1 or tonumber(now) < last then
    return { now, false }
end
local lines = redis.call('LRANGE', KEYS[3], last + 1 - oldest, last + ARGV[2] - oldest)
local hosts, upto = {}, nil
for i, line in ipairs(lines) do
    upto, hosts[i] = string.match(line, '^(%d+) (.*)$')
end
if not upto then
    return { now, false }
end
return { now, upto, hosts, redis.call('HMGET', KEYS[2], unpack(hosts)) }]]

local FETCH = [[return { redis.call('GET', KEYS[1]), redis.call('HGET', KEYS[2], ARGV[1]) }]]
local SCAN = [[return { redis.call('GET', KEYS[1]), redis.call('HSCAN', KEYS[2], ARGV[1], 'COUNT', ARGV[2]) }]]

-- Host → version up to which catching up has read it, so that the messages about it need no question.
local recent, recent_count = {}, 0
-- Whether Redis had a version when it was asked last.
local heard = false
local scanning = false
-- The epoch in which the scan has read all of Redis, until all that was said before its end is heard.
local scanned
-- Subscribing again is a ping, whose answer comes after all messages before it: how many were sent, and how many answered.
local pings, pongs, awaited = 0, 0, 0


-- Gets the options that routes name and that are not here yet, which has to be before those routes are kept. True, or nil and an
-- error. What is gone from Redis since is named by no route of it any more.
local function learn(values, first, step)
    local ids, known = {}, {}
    for i = first, #values, step do
        local id = type(values[i]) == "string" and options.id_of(values[i])
        if id and not known[id] and not options.is_known(id) then
            ids[#ids + 1] = id
            known[id] = true
        end
    end
    for from = 1, #ids, OPTIONS_AT_ONCE do
        local asked = { unpack(ids, from, math.min(from + OPTIONS_AT_ONCE - 1, #ids)) }
        local answer, err = redis.eval(QUIET_MS, "return redis.call('HMGET', KEYS[1], unpack(ARGV))", 1, OPTIONS, unpack(asked))
        if not answer then
            return nil, err
        end
        for i, id in ipairs(asked) do
            if type(answer[i]) == "string" then
                options.keep(id, answer[i])
            end
        end
    end
    return true
end


-- All changes up to now are in the table after it; nil, error if not. An emptied Redis is no error, but nothing to rely on.
local function catch_up()
    while true do
        local epoch, last = route_table.epoch(), route_table.version()
        local answer, err = redis.eval(QUIET_MS, CATCH_UP, 3, VERSION, ROUTES, CHANGES, format("%d", last), CHANGES_AT_ONCE)
        if not answer then
            return nil, err
        end
        local version = tonumber(answer[1])
        heard = version ~= nil
        if not version then
            routes.down(DOWN_S)
            return true
        end
        local upto = tonumber(answer[2])
        if not upto then
            ngx.log(ngx.NOTICE, "too many route changes went unheard between versions ", last, " and ", version, ": reading all")
            routes.flush()
            upto = version
        elseif upto ~= last then
            local ok
            ok, err = learn(answer[4], 1, 1)
            if not ok then
                return nil, err
            end
            for i, host in ipairs(answer[3]) do
                routes.keep(host, answer[4][i], epoch, version)
                recent[host] = upto
            end
            recent_count = recent_count + #answer[3]
            if recent_count > 10 * CHANGES_AT_ONCE then
                recent, recent_count = {}, 0
            end
        end
        -- Last, since whoever catches up next relies on what was heard up to here.
        route_table.set_version(upto)
        if upto == version then
            routes.up()
            return true
        end
    end
end


-- Reads the route of one host; true, or nil and an error.
local function fetch(host)
    local epoch = route_table.epoch()
    local answer, err = redis.eval(QUIET_MS, FETCH, 2, VERSION, ROUTES, host)
    if not answer then
        return nil, err
    end
    local version = tonumber(answer[1])
    if version then
        local ok
        ok, err = learn(answer, 2, 1)
        if not ok then
            return nil, err
        end
        routes.keep(host, answer[2], epoch, version)
    end
    return true
end


-- Forgets what the scan did not find.
local function purge(premature, epoch)
    local slot = 0
    while slot and not premature and not exiting() and route_table.epoch() == epoch do
        slot = route_table.purge(slot, SLOTS_AT_ONCE, epoch)
        ngx.sleep(BREATH_S)
    end
    if not slot then
        route_table.set_read(epoch)
        ngx.log(ngx.NOTICE, "all ", route_table.count(), " routes of Redis are here")
    end
    scanning = false
end


-- Acts on a message or on the answer to a ping; nil, error where Redis fails.
local function take(reply)
    if reply[1] == "subscribe" then
        pongs = pongs + 1
        if scanned and pongs >= awaited then
            assert(ngx.timer.at(0, purge, scanned))
            scanned = nil
        end
        return true
    elseif reply[1] ~= "message" then
        return true
    end
    local version, host = match(reply[3], "^(%d+) (%S+)$")
    version = tonumber(version)
    if not version then
        ngx.log(ngx.WARN, "not a route change: ", reply[3])
        host = "*"
    end
    if host == "*" then
        routes.flush()
        return catch_up()
    end
    local ok, err = true, nil
    if version > route_table.version() then
        ok, err = catch_up()
    end
    if ok and (recent[host] or 0) < version then
        ok, err = fetch(host)
    end
    return ok, err
end


-- Reads all routes, a piece at a time.
local function scan(epoch)
    local cursor = "0"
    repeat
        local answer, err = redis.eval(QUIET_MS, SCAN, 2, VERSION, ROUTES, cursor, ROUTES_AT_ONCE)
        local version = answer and tonumber(answer[1])
        if not version then
            ngx.log(ngx.NOTICE, "not all routes could be read: ", err or "Redis holds none yet")
            return
        end
        local found
        cursor, found = answer[2][1], answer[2][2]
        local ok
        ok, err = learn(found, 2, 2)
        if not ok then
            ngx.log(ngx.NOTICE, "not all routes could be read: ", err)
            return
        end
        for i = 1, #found, 2 do
            routes.keep(found[i], found[i + 1], epoch, version)
        end
        ngx.sleep(BREATH_S)
        if exiting() or route_table.epoch() ~= epoch then
            return
        end
    until cursor == "0"
    scanned, awaited = epoch, pings + 1
end


local function run_scan(premature)
    if not premature then
        local ran, err = pcall(scan, route_table.epoch())
        if not ran then
            ngx.log(ngx.ERR, "reading all routes: ", err)
        end
    end
    scanning = scanned ~= nil
end


-- Sees to it that all routes get here.
local function complete()
    if not heard or routes.is_loading() then
        return
    end
    routes.trust(route_table.epoch())
    if not route_table.is_read() and not scanning then
        scanning = true
        assert(ngx.timer.at(0, run_scan))
    end
end


-- Returns why it ended, and whether it had begun.
local function listen()
    local client, err = redis.connect(QUIET_MS)
    if not client then
        return err, false
    end
    local reply, ok
    if scanned then
        scanned, scanning = nil, false
    end
    pings, pongs, awaited = 1, 0, 0
    reply, err = client:subscribe(CHANNEL)
    ok = reply and take(reply)
    if ok then
        ok, err = catch_up()
    end
    if not ok then
        client:close()
        return err, false
    end
    ngx.log(ngx.NOTICE, "subscribed to route changes")
    while not exiting() do
        complete()
        reply, err = nil, "timeout"
        if not scanned or pings >= awaited then
            reply, err = client:read_reply()
        end
        if err == "timeout" then
            pings = pings + 1
            reply, err = client:subscribe(CHANNEL)
            if reply then
                -- A message that was lost on the way, or a Redis that was emptied, is noticed here.
                ok, err = catch_up()
            end
        end
        if reply and ok then
            ok, err = take(reply)
        end
        if not reply or not ok then
            client:close()
            return err, true
        end
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


-- Between the pieces of the snapshot the other requests of this worker get their turn.
local function load(premature)
    if premature then
        return
    end
    local ran, err = pcall(routes.load, function()
        ngx.sleep(BREATH_S)
        return not exiting()
    end)
    if not ran then
        ngx.log(ngx.ERR, "the snapshot: ", err)
    end
end


-- init_worker_by_lua. Worker 0 listens for all, since the routes are shared; if it crashes, nginx starts another worker 0.
function _M.start()
    if ngx.worker.id() == 0 then
        if routes.loads() then
            assert(ngx.timer.at(0, load))
        end
        assert(ngx.timer.at(0, run, FIRST_WAIT_S))
    end
end


return _M
