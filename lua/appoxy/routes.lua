-- The global nginx's decision: which droid on which server a host belongs to.
--
-- A route is known in shared memory with the epoch in which Redis said it; entries of an older epoch, and those marked, are
-- stale. Nothing is forgotten for being stale: it is asked for again where Redis can say, and serves as it is where Redis
-- can't. Redis can say only while `appoxy:routes:version` is there, since an emptied Redis knows nothing.

local hosts = require "appoxy.hosts"
local lrucache = require "resty.lrucache"
local redis = require "appoxy.redis"
local snapshot = require "appoxy.snapshot"

local find, gmatch, match, sub = string.find, string.gmatch, string.match, string.sub

local routes = ngx.shared.routes        -- hostname, or *.parent as routed → "uid server[,server…] flags"
local wildcards = ngx.shared.wildcards  -- hosts that a *.parent serves, apart so that invented names evict no real route
local absent = ngx.shared.absent        -- hosts that have no route, for a moment
local state = ngx.shared.routing        -- epoch, changes, down, loaded

local _M = {}

local STALE = 0           -- an epoch that never is
local ABSENT_S = 1
local DOWN_S = 0.5        -- how long a Redis that failed a visitor is left alone
local UNKNOWN_MS = 1000   -- a visitor of an unknown host waits for Redis at most so long …
local KNOWN_MS = 50       -- … and one whose host is known, but stale, so long

local ASK = [[
local answer = redis.call('HMGET', KEYS[2], unpack(ARGV))
table.insert(answer, 1, redis.call('GET', KEYS[1]))
return answer]]

-- Parsed routes by their text; as with hosts, they can't be outdated.
local parsed
local turn = 0


local function parse(value)
    local route = parsed:get(value)
    if route then
        return route
    end
    local uid, servers = match(value, "^(%S+) (%S+)")
    route = { uid = uid or "", servers = servers or "", known = {} }
    for server in gmatch(route.servers, "[^,]+") do
        if hosts.is_server(server) and hosts.is_uid(route.uid) then
            route.known[#route.known + 1] = server
        end
    end
    parsed:set(value, route)
    return route
end


local function pick(route)
    local known = route.known
    if #known > 1 then
        turn = turn % #known + 1
        return known[turn]
    end
    return known[1]
end


-- settings = { domain = …, servers = { names }, redis = { socket, host, port }, snapshot = path }
function _M.init(settings)
    hosts.init(settings.domain, settings.servers)
    redis.init(settings.redis)
    parsed = lrucache.new(10000)
    state:add("epoch", 1)
    snapshot.load(state, settings.snapshot, function(line)
        local host, value = match(line, "^(%S+) (%S+ %S+.*)$")
        return host ~= nil and routes:set(host, value, 0, STALE)
    end)
end


-- Every route may have changed: ask again for each one.
function _M.flush()
    state:incr("epoch", 1)
    absent:flush_all()
end


local function mark(host)
    for _, dict in ipairs { routes, wildcards } do
        local value = dict:get(host)
        if value then
            dict:set(host, value, 0, STALE)
        end
    end
    absent:delete(host)
end


-- The route of one hostname may have changed; that of a wildcard changes hosts that nobody listed.
function _M.invalidate(host)
    if find(host, "*", 1, true) then
        return _M.flush()
    end
    state:incr("changes", 1, 0)
    mark(host)
end


-- Redis does not answer: for so long nobody waits for it.
function _M.down(seconds)
    state:set("down", true, seconds)
end


function _M.up()
    state:delete("down")
end


local function cached(host)
    local value, epoch = routes:get(host)
    if not value then
        value, epoch = wildcards:get(host)
    end
    return value, epoch
end


-- set_by_lua: sets $server and returns the uid, or returns "" where that takes the slow path.
function _M.known()
    local var = ngx.var
    local host = hosts.read(var.host)
    if not host then
        return ""
    end
    if host.server then
        var.server = host.server
        return host.uid
    end
    local value, epoch = cached(host.name)
    if not value or (epoch ~= state:get("epoch") and not state:get("down")) then
        return ""
    end
    local route = parse(value)
    local server = pick(route)
    if not server then
        return ""
    end
    var.server = server
    return route.uid
end


-- The host, then *.parent for each of its parents, nearest first.
local function candidates(host)
    local list, count = { host }, 1
    local dot = find(host, ".", 1, true)
    while dot do
        count = count + 1
        list[count] = "*" .. sub(host, dot)
        dot = find(host, ".", dot + 1, true)
    end
    return list
end


-- Keeps what Redis said. A message about this host may have come between the question and now; then what is kept is marked
-- at once. Keeping first and looking at the counters after leaves no gap: invalidate() counts first and marks after.
local function keep(names, answer, at, epoch, changes)
    local host = names[1]
    for i, name in ipairs(names) do
        local value = answer[i + 1]
        if type(value) == "string" then
            routes:set(name, value, 0, epoch)
        else
            routes:delete(name)
        end
    end
    if at and at > 1 then
        wildcards:set(host, answer[at + 1], 0, epoch)
    else
        wildcards:delete(host)
    end
    if not at then
        absent:set(host, true, ABSENT_S)
    end
    if state:get("epoch") ~= epoch or state:get("changes") ~= changes then
        mark(host)
    end
end


-- Returns the route's text or nil; whether that is sure; where it comes from; and why.
local function find_route(host, keeping)
    local epoch, changes = state:get("epoch"), state:get("changes")
    local value, since = cached(host)
    if value and since == epoch then
        return value, true, "dict", "said by Redis in epoch " .. epoch
    end
    local down = state:get("down")
    if not value and not down and absent:get(host) then
        return nil, true, "none", "Redis had no route for it a moment ago"
    end
    local names = candidates(host)
    local fault = "Redis does not answer"
    if not down then
        local answer, err = redis.eval(value and KNOWN_MS or UNKNOWN_MS, ASK, 2, "appoxy:routes:version", "appoxy:routes", unpack(names))
        if not answer then
            ngx.log(ngx.WARN, "Redis: ", err)
            state:add("down", true, DOWN_S)
            fault = "Redis: " .. tostring(err)
        elseif type(answer[1]) ~= "string" then
            fault = "Redis holds no routes yet"
        else
            local at
            for i = 1, #names do
                if type(answer[i + 1]) == "string" then
                    at = i
                    break
                end
            end
            if keeping then
                keep(names, answer, at, epoch, changes)
            end
            if at then
                return answer[at + 1], true, "redis", "route of " .. names[at] .. ", version " .. answer[1]
            end
            return nil, true, "none", "Redis has no route for it, version " .. answer[1]
        end
    end
    for i = 2, #names do
        value = value or routes:get(names[i])
    end
    if value then
        return value, false, "stale", fault .. "; served as last known"
    end
    return nil, false, "none", fault .. ", and the host is not known here"
end


-- rewrite_by_lua of the slow path: sets $uid and $server, or ends the request with 404 or 503.
function _M.look_up()
    local var = ngx.var
    local host = hosts.read(var.host)
    if not host then
        return ngx.exit(ngx.HTTP_NOT_FOUND)
    end
    local value, sure = find_route(host.name, true)
    if not value then
        return ngx.exit(sure and ngx.HTTP_NOT_FOUND or ngx.HTTP_SERVICE_UNAVAILABLE)
    end
    local route = parse(value)
    local server = pick(route)
    if not server then
        ngx.log(ngx.WARN, "no upstream for any of the servers ", route.servers, " of ", host.name)
        return ngx.exit(ngx.HTTP_SERVICE_UNAVAILABLE)
    end
    var.uid = route.uid
    var.server = server
end


-- How the next request for a host is decided, without deciding one.
function _M.explain(text)
    local host = hosts.read(text)
    if not host then
        return { host = text, source = "none", note = "not a hostname: 404" }
    end
    if host.server then
        return { host = host.name, uid = host.uid, servers = { host.server }, source = "direct", note = "the host names droid and server" }
    end
    local value, sure, source, note = find_route(host.name, false)
    local explained = { host = host.name, source = source, note = note }
    if not value then
        explained.note = note .. (sure and ": 404" or ": 503")
        return explained
    end
    local route = parse(value)
    explained.uid = route.uid
    explained.servers = {}
    for server in gmatch(route.servers, "[^,]+") do
        explained.servers[#explained.servers + 1] = server
    end
    if #route.known == 0 then
        explained.note = note .. "; this nginx has no upstream for " .. route.servers .. ": 503"
    end
    return explained
end


return _M
