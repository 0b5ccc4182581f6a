-- The local nginx's decision: where a droid is, whether it runs, and how many requests are with it.
--
-- droidd stops a droid like this: it marks the droid in the dict, then reads the requests in flight until they are 0. So a
-- request counts itself first and reads the state (again) after: whichever comes first, one of the two sees the other.
--
-- A droid may have several replicas, which take requests in turn. One that could not be reached is left out for a while, and its
-- request goes on to the next one; the hook is asked only when none is left.

local balancer = require "ngx.balancer"
local connections = require "appoxy.connections"
local hosts = require "appoxy.hosts"
local lrucache = require "resty.lrucache"
local snapshot = require "appoxy.snapshot"

local find, gmatch, match = string.find, string.gmatch, string.match

local droids = ngx.shared.droids      -- uid → "state ip:port[,ip:port…]"
local activity = ngx.shared.activity  -- uid → unix ms of its last request; and the mark that the snapshot was loaded
local inflight = ngx.shared.inflight  -- "ip:port pid-of-the-worker" → requests now; "!ip:port": not reached

local _M = {}

local RUNNING = "running"
local TRIES = 3
local ASKS = 3
local LEFT_OUT = 5   -- seconds for which a replica gets no requests that could not be reached
local REPLICAS = 64

-- nginx's NGX_BUSY, by which a balancer says so: the answer becomes 502, while an HTTP status given here becomes 500.
local NO_LIVE_UPSTREAMS = -3

-- Droids by their text in the dict, as each worker needs them.
local parsed


local function parse(value)
    local droid = parsed:get(value)
    if droid then
        return droid
    end
    local status, peer = match(value, "^(%S+) (%S+)$")
    if not find(peer, ",", 1, true) then
        local ip, port = match(peer, "^%[?(.-)%]?:(%d+)$")
        -- Counted per worker, so that the count of a killed worker can be told from the living ones' and thrown away.
        droid = { state = status, peer = peer, ip = ip, port = tonumber(port), count = peer .. " " .. ngx.worker.pid() }
    else
        -- Workers begin with different replicas, or the first would get most of a few requests.
        droid = { state = status, replicas = {}, turn = ngx.worker.id() or 0 }
        for one in gmatch(peer, "[^,]+") do
            local replica = parse(RUNNING .. " " .. one)
            replica.others = true
            droid.replicas[#droid.replicas + 1] = replica
        end
    end
    parsed:set(value, droid)
    return droid
end


-- The replica whose turn it is: one that could be reached lately and is not `failed`; else nil, but where nothing failed the next one.
local function choose(droid, failed)
    local replicas = droid.replicas
    local count = #replicas
    local turn = droid.turn
    for i = 1, count do
        local at = (turn + i - 1) % count + 1
        local replica = replicas[at]
        if replica.peer ~= failed and not inflight:get("!" .. replica.peer) then
            droid.turn = at
            return replica
        end
    end
    if failed then
        return nil
    end
    droid.turn = turn % count + 1
    return replicas[droid.turn]
end


local function now()
    return math.floor(ngx.now() * 1000 + 0.5)
end


local function is_address(text)
    return find(text, "^[%d.]+:%d+$") ~= nil or find(text, "^%[[%x:.]+%]:%d+$") ~= nil
end


local function are_addresses(text)
    local count = 0
    for one in gmatch(text .. ",", "([^,]*),") do
        count = count + 1
        if not is_address(one) or count > REPLICAS then
            return false
        end
    end
    return true
end


-- settings = { domain = …, server = this server's name, snapshot = path }
function _M.init(settings)
    hosts.init(settings.domain, { settings.server })
    parsed = lrucache.new(10000)
    snapshot.load(activity, settings.snapshot, function(line)
        local uid, status, peer = match(line, "^(%S+) (%S+) (%S+)$")
        return uid ~= nil and _M.put(uid, status, peer)
    end)
end


-- True, or nil and what is wrong. safe_set, since a full dict must not push out another droid.
function _M.put(uid, status, peer)
    if not hosts.is_uid(uid) then
        return nil, "not a uid"
    end
    if not find(status, "^[a-z]+$") then
        return nil, "not a state"
    end
    if not are_addresses(peer) and (peer ~= "-" or status == RUNNING) then
        return nil, "not an ip:port, or several separated by commas"
    end
    return droids:safe_set(uid, status .. " " .. peer)
end


function _M.delete(uid)
    droids:delete(uid)
    activity:delete(uid)
end


-- set_by_lua: counts the request in, sets $uid, and returns the running droid's ip:port. Otherwise "": without $uid the host
-- names no droid here; else $state says why the hook has to be asked.
function _M.enter()
    local var = ngx.var
    local host = hosts.read(var.host)
    if not host or not host.uid then
        return ""
    end
    local uid = host.uid
    var.uid = uid
    local value = droids:get(uid)
    if value then
        activity:set(uid, now())
    end
    for _ = 1, TRIES do
        if not value then
            var.state = "unknown"
            return ""
        end
        local droid = parse(value)
        if droid.state ~= RUNNING then
            var.state = droid.state
            return ""
        end
        if droid.replicas then
            droid = choose(droid)
        elseif droid.others then
            -- It was one of several until lately.
            droid.others = nil
        end
        inflight:incr(droid.count, 1, 0)
        local again = droids:get(uid)
        if again == value then
            return droid.peer
        end
        inflight:incr(droid.count, -1)
        value = again
    end
    var.state = RUNNING
    return ""
end


-- set_by_lua, behind enter() where droidd said that the droid is awake: "" if it is; else "again" if the hook is to be asked once
-- more, or "enough". nginx itself bounds the ways from location to location, but with an error.
function _M.gone()
    local var = ngx.var
    if var.peer ~= "" then
        return ""
    end
    -- Not ngx.ctx, which each way to another location empties.
    local asked = (tonumber(var.asked) or 1) + 1
    var.asked = asked
    return asked <= ASKS and "again" or "enough"
end


local function release(var)
    local peer = var.peer
    if peer and peer ~= "" then
        inflight:incr(parse(RUNNING .. " " .. peer).count, -1)
        var.peer = ""
        return true
    end
    return false
end


-- After a try that failed: the next replica, counted in; nil where there is none. A request that was sent is tried once more, since
-- a kept connection may just have been closed, but does not go the round of all replicas: it may be what ends them.
local function go_on(var, failed)
    local failures, sent = 0, nil
    -- One figure for each attempt so far, as in "0, 312 : ".
    for figure in gmatch(var.upstream_bytes_sent or "", "%d+") do
        failures, sent = failures + 1, figure
    end
    if sent == "0" then
        inflight:set("!" .. failed.peer, true, LEFT_OUT)
    elseif failures > 1 then
        return nil
    end
    release(var)
    local uid = var.uid
    local value = droids:get(uid)
    for _ = 1, TRIES do
        local droid = value and parse(value)
        if not droid or droid.state ~= RUNNING then
            return nil
        end
        if droid.replicas then
            droid = choose(droid, failed.peer)
        end
        if not droid or droid.peer == failed.peer then
            return nil
        end
        inflight:incr(droid.count, 1, 0)
        local again = droids:get(uid)
        if again == value then
            var.peer = droid.peer
            return droid
        end
        inflight:incr(droid.count, -1)
        value = again
    end
    return nil
end


-- balancer_by_lua
function _M.balance()
    local var = ngx.var
    local droid = parse(RUNNING .. " " .. var.peer)
    if droid.others then
        if balancer.get_last_failure() then
            droid = go_on(var, droid)
            if not droid then
                return ngx.exit(NO_LIVE_UPSTREAMS)
            end
        end
        balancer.set_more_tries(1)
    end
    local ok, err = balancer.set_current_peer(droid.ip, droid.port)
    if not ok then
        ngx.log(ngx.ERR, "can't go to ", droid.peer, ": ", err)
        return ngx.exit(ngx.HTTP_BAD_GATEWAY)
    end
end


-- set_by_lua of the hook: counts the request out, sets $sent, and returns the reason to ask: the state, or how the droid failed.
function _M.reason()
    local var = ngx.var
    -- An attempt that found no further replica was counted out then.
    if not release(var) and (var.upstream_status or "") == "" then
        return var.state
    end
    -- One figure for each attempt, as in "0, 312". Not $upstream_connect_time: nginx sets that for a refused connect, too.
    if find(var.upstream_bytes_sent or "", "[1-9]") then
        var.sent = "1"
    end
    return match(var.upstream_status or "", "(%d+)$") or "502"
end


-- log_by_lua: counts the request out, unless that was done.
function _M.leave()
    local var = ngx.var
    local uid = var.uid
    if not uid or uid == "" then
        return
    end
    release(var)
    if droids:get(uid) then
        activity:set(uid, now())
    end
end


-- All droids as lines of the snapshot, sorted.
function _M.lines()
    local lines = {}
    for i, uid in ipairs(droids:get_keys(0)) do
        lines[i] = uid .. " " .. (droids:get(uid) or "gone -")
    end
    table.sort(lines)
    return lines
end


local function is_alive(pid)
    local file = io.open("/proc/" .. pid .. "/stat")
    if file then
        file:close()
    end
    return file ~= nil
end


-- uid → unix ms of its last request, ip:port → requests in flight, and state → connections.
function _M.activity()
    local last, peers, alive = {}, {}, {}
    for _, uid in ipairs(activity:get_keys(0)) do
        if uid ~= "loaded" then
            last[uid] = activity:get(uid)
        end
    end
    for _, key in ipairs(inflight:get_keys(0)) do
        local peer, pid = match(key, "^(%S+) (%d+)$")
        if pid and alive[pid] == nil then
            alive[pid] = is_alive(pid)
        end
        -- The others tell of replicas that could not be reached.
        if pid and alive[pid] then
            peers[peer] = (peers[peer] or 0) + (inflight:get(key) or 0)
        elseif pid then
            inflight:delete(key)
        end
    end
    return { now = now(), droids = last, peers = peers, connections = connections.counts() }
end


return _M
