-- The global nginx's decision: which droid on which server a host belongs to.
--
-- Every route is here in memory (appoxy.route_table): read from the snapshot at a start, and from Redis whenever the subscriber
-- hears of a change. While all of them are current a visitor waits for nobody, and a host that is not here has no route.
-- What may have changed unheard is stale: it is asked for where Redis can say, and serves as it is where Redis can't. Redis can
-- say only while `appoxy:routes:version` is there, since an emptied Redis knows nothing.

local hosts = require "appoxy.hosts"
local options = require "appoxy.options"
local redis = require "appoxy.redis"
local request_id = require "appoxy.request_id"
local routes = require "appoxy.route_table"
local snapshot = require "appoxy.snapshot"

local find, gmatch, match, sub = string.find, string.gmatch, string.match, string.sub
local get, is_current = routes.get, routes.is_current

local asked = ngx.shared.asked    -- host → the epoch in which Redis was asked for it, a moment ago
local state = ngx.shared.routing  -- down, loaded, and where the table is

local _M = {}

local SNAPSHOT = 1        -- the epoch of what the snapshot says
local FIRST_LOAD_S = 0.2  -- no longer does a start wait for the snapshot; a large one is read on while nginx serves
local ASKED_S = 1
local DOWN_S = 0.5        -- how long a Redis that failed a visitor is left alone
local UNKNOWN_MS = 1000   -- a visitor of an unknown host waits for Redis at most so long …
local KNOWN_MS = 4        -- … and one whose host is known, but stale, so long
local MOST_TARGETS = 10000
local COUNT = "count:"
local SOURCES = { "dict", "redis", "stale", "none", "away" }

-- Answers the version, the route of each name, and the options of the first that has one.
local ASK = [[
local answer = redis.call('HMGET', KEYS[2], unpack(ARGV))
local count, options = #answer, false
for i = 1, count do
    if answer[i] then
        options = redis.call('HGET', KEYS[3], string.match(answer[i], '%S+$'))
        break
    end
end
answer[count + 1] = options
table.insert(answer, 1, redis.call('GET', KEYS[1]))
return answer]]

-- What follows from a route's text after the uid. It can't be outdated, and there are few different ones.
local targets, target_count = {}, 0
local turn = 0
local snapshot_path
local default_server -- what $server is before it is set, if it is
-- While this worker reads the snapshot: the hosts that changed since the snapshot was written.
local changed


-- Counts in memory that all workers share, so never on the path that known hosts take.
local function tally(what)
    state:incr(COUNT .. what, 1, 0)
end


local function target_of(rest)
    local target = targets[rest]
    if target then
        return target
    end
    target = { servers = match(rest, "^%S+") or "", known = {}, options = options.id_of(rest) }
    for server in gmatch(target.servers, "[^,]+") do
        if hosts.is_server(server) then
            target.known[#target.known + 1] = server
        end
    end
    if target_count == MOST_TARGETS then
        targets, target_count = {}, 0
    end
    targets[rest] = target
    target_count = target_count + 1
    return target
end


local function pick(target)
    local known = target.known
    if #known > 1 then
        turn = turn % #known + 1
        return known[turn]
    end
    return known[1]
end


local function load(pause)
    local version = 0
    snapshot.load(state, snapshot_path, function(line)
        local id, json = match(line, "^=(%x+) (.+)$")
        if id then
            options.keep(id, json)
            return true
        end
        local host, value = match(line, "^(%S+) (%S+ %S+.*)$")
        if host then
            return not hosts.is_direct(host) and not (changed and changed[host]) and routes.add(host, value, SNAPSHOT, version)
        end
        version = tonumber(match(line, "^version (%d+)$")) or version
        -- From here on changes are caught up with. A newer file that is read on in place of this one just holds some already.
        if state:add("snapshot", version) and routes.version() == 0 then
            routes.set_version(version)
        end
    end, pause)
end


-- settings = { domain = …, servers = { names }, default_server = what $server is before Lua sets it, redis = { socket, host, port },
-- snapshot = path }
function _M.init(settings)
    hosts.init(settings.domain, settings.servers)
    redis.init(settings.redis)
    snapshot_path = settings.snapshot
    default_server = settings.default_server
    routes.open(state)
    local begun = ngx.now()
    load(function()
        ngx.update_time()
        return ngx.now() - begun < FIRST_LOAD_S
    end)
end


-- For the one worker that hears of changes, before it hears of any: whether there is more of the snapshot to load().
function _M.loads()
    if state:get("loaded") then
        return false
    end
    changed = {}
    if routes.version() ~= (state:get("snapshot") or 0) then
        -- A worker before this one had heard of changes, and took with it which.
        _M.flush()
    end
    return true
end


-- `pause` as in snapshot.load.
function _M.load(pause)
    load(pause)
    changed = nil
end


function _M.is_loading()
    return changed ~= nil
end


-- The snapshot's routes hold if all changes since were heard in this epoch, the first one.
function _M.trust(epoch)
    if state:get("loaded") and not routes.is_read() and epoch == SNAPSHOT + 1 then
        routes.trust(SNAPSHOT, epoch)
        routes.set_read(epoch)
    end
end


-- Every route may have changed: ask again for each one.
function _M.flush()
    tally("flush")
    routes.flush()
end


-- Keeps what Redis, asked in `epoch`, said at `version` of a host: a text, or ngx.null.
function _M.keep(host, value, epoch, version)
    if changed then
        changed[host] = true
    end
    if type(value) == "string" then
        return routes.set(host, value, epoch, version)
    end
    return routes.delete(host, epoch, version)
end


-- Redis does not answer: for so long nobody waits for it.
function _M.down(seconds)
    state:set("down", true, seconds)
end


function _M.up()
    state:delete("down")
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


-- The nearest wildcard that covers the host, by what is here: uid, the rest, its epoch, and the wildcard.
local function covering(host)
    local dot = find(host, ".", 1, true)
    while dot do
        local wildcard = "*" .. sub(host, dot)
        local uid, rest, epoch = get(wildcard)
        if uid then
            return uid, rest, epoch, wildcard
        end
        dot = find(host, ".", dot + 1, true)
    end
end


-- Of a host that has no route of its own here.
local function known_otherwise(var, text)
    local host = hosts.read(text)
    if not host then
        return nil
    end
    if host.server then
        -- Its app's options hold here, too, so that this is no way around them.
        if not routes.is_whole() or get("@" .. host.uid) then
            return nil
        end
        var.server = host.server
        return host.uid
    end
    if routes.has_wildcards() and routes.is_whole() then
        return nil, covering(host.name)
    end
end


-- set_by_lua: sets $server and returns the uid, or returns "" where that takes the slow path: for what is not known well enough
-- here, and for apps with options, so that those without pay nothing for them.
function _M.known()
    local var = ngx.var
    var.id = request_id.next()
    local text = var.host
    local uid, rest, epoch = get(text)
    if not uid then
        local direct
        direct, uid, rest, epoch = known_otherwise(var, text)
        if not uid then
            return direct or ""
        end
    end
    if not is_current(epoch) and not state:get("down") then
        return ""
    end
    local target = targets[rest] or target_of(rest)
    local server = pick(target)
    if not server or target.options then
        return ""
    end
    if server ~= default_server then
        var.server = server
    end
    return uid
end


-- What is here of a host: uid and rest or nil, whether that is sure, and where it comes from.
local function find_here(host, epoch)
    local uid, rest, since = get(host)
    local from = host
    if not uid then
        uid, rest, since, from = covering(host)
    end
    local sure = since == nil or is_current(since)
    -- That a nearer route is missing here says something only where it would be here.
    if from ~= host and not (routes.is_whole() or asked:get(host) == epoch) then
        sure = false
    end
    return uid, rest, sure, from, since
end


-- Asks Redis for a host and its wildcards, and keeps what it says. True, or nil and why not.
local function ask(host, epoch, timeout)
    local names = candidates(host)
    local answer, err = redis.eval(timeout, ASK, 3, "appoxy:routes:version", "appoxy:routes", "appoxy:options",
        unpack(names))
    if not answer then
        ngx.log(ngx.WARN, "Redis: ", err)
        tally("failed")
        state:add("down", true, DOWN_S)
        return nil, "Redis: " .. tostring(err)
    end
    local version = tonumber(answer[1])
    if not version then
        return nil, "Redis holds no routes yet"
    end
    local found
    for i, name in ipairs(names) do
        local value = answer[i + 1]
        if not found and type(value) == "string" then
            found = { value = value, name = name }
            local id, json = options.id_of(value), answer[#names + 2]
            if id and type(json) == "string" then
                options.keep(id, json)
            end
        end
        _M.keep(name, value, epoch, version)
    end
    asked:set(host, epoch, ASKED_S)
    return true, found, version
end


-- Returns uid and rest or nil; whether that is sure; where it comes from; and why.
local function find_route(host)
    local epoch, down = routes.epoch(), state:get("down")
    local uid, rest, sure, from, since = find_here(host, epoch)
    if sure and (uid or not down) then
        if not uid then
            return nil, nil, true, "none", "all routes are here, and none is its"
        end
        return uid, rest, true, "dict", "route of " .. from
            .. (since == SNAPSHOT and ", said by the snapshot, and not changed since" or ", said by Redis in epoch " .. since)
    end
    local fault = "Redis does not answer"
    if not down then
        local ok, found, version = ask(host, epoch, uid and KNOWN_MS or UNKNOWN_MS)
        if ok and found then
            uid, rest = match(found.value, "^(%S+) (.*)$")
            return uid, rest, true, "redis", "route of " .. found.name .. ", version " .. version
        elseif ok then
            return nil, nil, true, "none", "Redis has no route for it, version " .. version
        end
        fault = found
    end
    if uid then
        return uid, rest, false, "stale", fault .. "; served as last known"
    end
    return nil, nil, false, "none", fault .. ", and the host is not known here"
end


-- Uid and server of a host, for options that lead to another one.
local function find_other(name)
    local uid, rest = find_route(name)
    if uid then
        return uid, pick(target_of(rest))
    end
end


-- Lets nobody through whose app's options are not known here nor to be had.
local function enforce(id, uid, name, find_name)
    if not options.get(id) and not state:get("down") then
        local json, err = redis.eval(UNKNOWN_MS, "return redis.call('HGET', KEYS[1], ARGV[1])", 1, "appoxy:options", id)
        if type(json) == "string" then
            options.keep(id, json)
        elseif err then
            ngx.log(ngx.WARN, "Redis: ", err)
            tally("failed")
            state:add("down", true, DOWN_S)
        end
    end
    return options.enforce(id, uid, name, find_name)
end


-- The droid that the host itself names; @uid says whether its app has options. What a snapshot was whole of stands in for Redis.
local function look_up_direct(var, host)
    local uid, rest, sure = find_route("@" .. host.uid)
    if uid then
        enforce(target_of(rest).options, uid, host.name, nil)
    elseif not sure and not (state:get("loaded") and state:get("snapshot")) then
        return ngx.exit(ngx.HTTP_SERVICE_UNAVAILABLE)
    end
    var.uid = host.uid
    var.server = host.server
end


-- rewrite_by_lua of the slow path: sets $uid and $server, or ends the request with 404 or 503, or as its app's options say.
function _M.look_up()
    local var = ngx.var
    local host = hosts.read(var.host)
    if not host then
        return ngx.exit(ngx.HTTP_NOT_FOUND)
    end
    if host.server then
        return look_up_direct(var, host)
    end
    local uid, rest, sure, source = find_route(host.name)
    tally(uid and source or sure and "none" or "away")
    if not uid then
        return ngx.exit(sure and ngx.HTTP_NOT_FOUND or ngx.HTTP_SERVICE_UNAVAILABLE)
    end
    local target = target_of(rest)
    local server = pick(target)
    if target.options then
        local other, at = enforce(target.options, uid, host.name, find_other)
        if at then
            uid, server = other, at
        end
    end
    if not server then
        ngx.log(ngx.WARN, "no upstream for any of the servers of ", host.name, ": ", rest)
        return ngx.exit(ngx.HTTP_SERVICE_UNAVAILABLE)
    end
    var.uid = uid
    var.server = server
end


-- What was counted since this nginx began, and how the routes stand.
function _M.counts()
    local lookups = {}
    for _, source in ipairs(SOURCES) do
        lookups[source] = state:get(COUNT .. source) or 0
    end
    return {
        lookups = lookups,
        redisFailures = state:get(COUNT .. "failed") or 0,
        flushes = state:get(COUNT .. "flush") or 0,
        routes = tonumber(routes.count()),
        version = tonumber(routes.version()),
    }
end


-- How a host is decided.
function _M.explain(text)
    local host = hosts.read(text)
    if not host then
        return { host = text, source = "none", note = "not a hostname: 404" }
    end
    if host.server then
        local _, rest = find_route("@" .. host.uid)
        return { host = host.name, uid = host.uid, servers = { host.server }, source = "direct", note = "the host names droid and server",
            options = rest and options.names(target_of(rest).options) }
    end
    local uid, rest, sure, source, note = find_route(host.name)
    local explained = { host = host.name, source = source, note = note }
    if not uid then
        explained.note = note .. (sure and ": 404" or ": 503")
        return explained
    end
    local target = target_of(rest)
    explained.uid = uid
    explained.servers = {}
    for server in gmatch(target.servers, "[^,]+") do
        explained.servers[#explained.servers + 1] = server
    end
    if target.options then
        explained.options = options.names(target.options)
        if not explained.options then
            explained.note = note .. "; its options are not known here"
        end
    end
    if #target.known == 0 then
        explained.note = note .. "; this nginx has no upstream for " .. target.servers .. ": 503"
    end
    return explained
end


return _M
