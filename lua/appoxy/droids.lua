-- The local nginx's decision: where a droid is, whether it runs, and how many requests are with it.
--
-- droidd stops a droid like this: it marks the droid in the dict, then reads the requests in flight until they are 0. So a
-- request counts itself first and reads the state (again) after: whichever comes first, one of the two sees the other.

local balancer = require "ngx.balancer"
local hosts = require "appoxy.hosts"
local lrucache = require "resty.lrucache"
local snapshot = require "appoxy.snapshot"

local find, match = string.find, string.match

local droids = ngx.shared.droids      -- uid → "state ip:port"
local activity = ngx.shared.activity  -- uid → unix ms of its last request; and the mark that the snapshot was loaded
local inflight = ngx.shared.inflight  -- "ip:port pid-of-the-worker" → requests now

local _M = {}

local RUNNING = "running"
local TRIES = 3

-- Droids by their text in the dict, as each worker needs them.
local parsed


local function parse(value)
    local droid = parsed:get(value)
    if droid then
        return droid
    end
    local status, peer = match(value, "^(%S+) (%S+)$")
    local ip, port = match(peer, "^%[?(.-)%]?:(%d+)$")
    -- Counted per worker, so that the count of a killed worker can be told from the living ones' and thrown away.
    droid = { state = status, peer = peer, ip = ip, port = tonumber(port), count = peer .. " " .. ngx.worker.pid() }
    parsed:set(value, droid)
    return droid
end


local function now()
    return math.floor(ngx.now() * 1000 + 0.5)
end


local function is_address(text)
    return find(text, "^[%d.]+:%d+$") ~= nil or find(text, "^%[[%x:.]+%]:%d+$") ~= nil
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
    if not is_address(peer) and (peer ~= "-" or status == RUNNING) then
        return nil, "not an ip:port"
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


local function release(var)
    local peer = var.peer
    if peer and peer ~= "" then
        inflight:incr(parse(RUNNING .. " " .. peer).count, -1)
        var.peer = ""
        return true
    end
    return false
end


-- balancer_by_lua
function _M.balance()
    local droid = parse(RUNNING .. " " .. ngx.var.peer)
    local ok, err = balancer.set_current_peer(droid.ip, droid.port)
    if not ok then
        ngx.log(ngx.ERR, "can't go to ", droid.peer, ": ", err)
        return ngx.exit(ngx.HTTP_BAD_GATEWAY)
    end
end


-- set_by_lua of the hook: counts the request out, sets $sent, and returns the reason to ask: the state, or how the droid failed.
function _M.reason()
    local var = ngx.var
    if not release(var) then
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


-- uid → unix ms of its last request, and ip:port → requests in flight.
function _M.activity()
    local last, peers, alive = {}, {}, {}
    for _, uid in ipairs(activity:get_keys(0)) do
        if uid ~= "loaded" then
            last[uid] = activity:get(uid)
        end
    end
    for _, key in ipairs(inflight:get_keys(0)) do
        local peer, pid = match(key, "^(%S+) (%d+)$")
        if alive[pid] == nil then
            alive[pid] = is_alive(pid)
        end
        if alive[pid] then
            peers[peer] = (peers[peer] or 0) + (inflight:get(key) or 0)
        else
            inflight:delete(key)
        end
    end
    return { now = now(), droids = last, peers = peers }
end


return _M
