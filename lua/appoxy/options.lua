-- What the global nginx does with requests for an app before they reach it: its routing options.
--
-- A route names its options by an id that is made of their text. So what is known of an id, here or in any worker, is never
-- outdated, and a change of options is but a change of the route. Options that can't be had mean 503: auth is among them.

local balancer = require "ngx.balancer"
local basic_auth = require "appoxy.basic_auth"
local cjson = require "cjson.safe"
local lrucache = require "resty.lrucache"
local networks = require "appoxy.networks"
local rates = require "appoxy.rates"

local match, sub = string.match, string.sub

local texts = ngx.shared.options  -- id → JSON, as routerd's StoredRouting writes it

local _M = {}

local MAINTENANCE_S, UNAVAILABLE_S = 300, 5
local BUCKETS = 100
local COOKIE_S = 30 * 24 * 3600
-- Parsed options are looked at again after so long, so that the dict, when it is full, takes those in use for such.
local PARSED_S = 60

local ID_AT_END = " (" .. string.rep("%x", 32) .. ")$"

local parsed = lrucache.new(1000)

-- As users call them, in the order in which they are applied.
local NAMES = {
    { "maintenance", "maintenance" }, { "https", "force-https" }, { "www", "www" }, { "allow", "allow-ips" }, { "auth", "auth" },
    { "rate", "rate-limit" }, { "max_body", "max-body" }, { "read_timeout", "read-timeout" }, { "send_timeout", "send-timeout" },
    { "canary", "canary" }, { "headers", "response-headers" }, { "error_page", "error-page" },
    { "maintenance_page", "maintenance-page" },
}


-- The id that the text of a route ends with, nil for one without options.
function _M.id_of(route)
    return match(route, ID_AT_END)
end


-- Whether the options of an id are here.
function _M.is_known(id)
    return texts:get(id) ~= nil
end


-- Keeps options that Redis or the snapshot told.
function _M.keep(id, json)
    local ok, err = texts:add(id, json)
    if not ok and err ~= "exists" then
        ngx.log(ngx.ERR, "options ", id, " can't be kept: ", err)
    end
end


-- The options of an id; nil where they are not known here.
function _M.get(id)
    local options, old = parsed:get(id)
    if options then
        return options
    end
    local json = texts:get(id)
    if json then
        local err
        options, err = cjson.decode(json)
        if not options then
            ngx.log(ngx.ERR, "options ", id, ": ", err)
            return nil
        end
        options.json = json
        options.networks = options.allow and networks.parse(options.allow)
    elseif old then
        options = old
        _M.keep(id, old.json)
    else
        return nil
    end
    parsed:set(id, options, PARSED_S)
    return options
end


-- The names of the options of an id, for people; nil where they are not known here.
function _M.names(id)
    local options = _M.get(id)
    if not options then
        return nil
    end
    local names = {}
    for _, name in ipairs(NAMES) do
        if options[name[1]] then
            names[#names + 1] = name[2]
        end
    end
    return names
end


local function other_name(www, host)
    if www == "to-apex" then
        return match(host, "^www%.(.+)$")
    elseif www == "to-www" and sub(host, 1, 4) ~= "www." then
        return "www." .. host
    end
end


local function refuse(status, wait)
    if wait then
        ngx.header["Retry-After"] = math.ceil(wait)
    end
    return ngx.exit(status)
end


-- The bytes of a body whose length nobody said; it has to be read to know.
local function body_size()
    ngx.req.read_body()
    local data = ngx.req.get_body_data()
    if data then
        return #data
    end
    local path = ngx.req.get_body_file()
    local file = path and io.open(path, "rb")
    if not file then
        return 0
    end
    local size = file:seek("end")
    file:close()
    return size
end


local function is_too_long(most)
    local length = ngx.var.http_content_length
    if length then
        return tonumber(length) > most
    end
    return ngx.var.http_transfer_encoding ~= nil and body_size() > most
end


-- The canary's uid and server, for the visitors whose bucket is among its percentage. A visitor keeps the bucket that was drawn
-- once, so that a higher percentage moves nobody back.
local function canary(target, find)
    local var = ngx.var
    local bucket = tonumber(match(var.cookie_appoxy_bucket or "", "^%d%d?$"))
    if not bucket then
        bucket = tonumber(sub(var.request_id, 1, 8), 16) % BUCKETS
        ngx.ctx.bucket = bucket
    end
    if bucket >= target.percent then
        return nil
    end
    local uid, server = find(target.host)
    if uid == target.uid then
        return uid, server
    end
end


-- rewrite_by_lua: lets the request for host `name` of the app `uid` through, or ends it. find(host) tells uid and server of another
-- host, nil where it has none; it is left out at a droid's direct address, which has no other name and no canary.
-- Returns uid and server if those are to be others.
function _M.enforce(id, uid, name, find)
    local options = _M.get(id)
    if not options then
        ngx.log(ngx.ERR, "the options ", id, " of ", name, " can't be had")
        return ngx.exit(ngx.HTTP_SERVICE_UNAVAILABLE)
    end
    local var = ngx.var
    var.options = id
    ngx.ctx.options = options
    if options.maintenance then
        return ngx.exit(ngx.HTTP_SERVICE_UNAVAILABLE)
    end
    if options.https and var.proto ~= "https" then
        return ngx.redirect("https://" .. name .. var.request_uri, 308)
    end
    local other = find and other_name(options.www, name)
    if other and find(other) == uid then
        return ngx.redirect(var.proto .. "://" .. other .. var.visited_port .. var.request_uri, 308)
    end
    if options.networks and not networks.contain(options.networks, var.binary_remote_addr) then
        return ngx.exit(ngx.HTTP_FORBIDDEN)
    end
    if options.auth then
        local admitted, wait = basic_auth.admits(options.auth, id, uid, var.http_authorization)
        if wait then
            return refuse(429, wait)
        elseif not admitted then
            ngx.header["WWW-Authenticate"] = 'Basic realm="Restricted", charset="UTF-8"'
            return ngx.exit(ngx.HTTP_UNAUTHORIZED)
        end
        -- A password for us is none of the app's business.
        ngx.req.clear_header("Authorization")
    end
    if options.rate then
        -- What was counted at another rate says nothing of this one.
        local counter = string.format("requests %d/%d %s ", options.rate.count, options.rate.seconds, uid)
        local wait = rates.wait(counter .. networks.client(var.binary_remote_addr), options.rate)
        if wait > 0 then
            return refuse(429, wait)
        end
    end
    if options.max_body and is_too_long(options.max_body) then
        return ngx.exit(413)
    end
    if options.read_timeout or options.send_timeout then
        var.timed = ".timed"
    end
    if options.canary and find then
        return canary(options.canary, find)
    end
end


-- balancer_by_lua of the upstreams for apps with time-outs. It sets no peer, so nginx takes the next one of the upstream's own.
function _M.set_timeouts()
    local options = ngx.ctx.options
    local ok, err = balancer.set_timeouts(nil, options.send_timeout, options.read_timeout)
    if not ok then
        ngx.log(ngx.ERR, "time-outs: ", err)
    end
end


-- Whether this is a page of the local nginx, which says so in a header that it takes from whatever an app answers.
local function is_own_page()
    return ngx.status >= 502 and ngx.status <= 504 and ngx.var.upstream_http_x_appoxy_page == "own"
end


-- header_filter_by_lua
function _M.filter_header()
    local ctx = ngx.ctx
    local options = ctx.options
    if not options then
        return
    end
    if ctx.bucket then
        local cookies = ngx.header["Set-Cookie"]
        cookies = type(cookies) == "table" and cookies or { cookies }
        cookies[#cookies + 1] = "appoxy_bucket=" .. ctx.bucket .. "; Path=/; Max-Age=" .. COOKIE_S .. "; HttpOnly; SameSite=Lax"
        ngx.header["Set-Cookie"] = cookies
    end
    for name, value in pairs(options.headers or {}) do
        ngx.header[name] = value
    end
    if options.error_page and is_own_page() then
        ctx.page = options.error_page
        ngx.header.content_type = "text/html; charset=utf-8"
        ngx.header.content_length = #ctx.page
    end
end


-- body_filter_by_lua: puts the app's page in place of ours.
function _M.filter_body()
    local page = ngx.ctx.page
    if page then
        ngx.arg[1] = page
        ngx.arg[2] = true
        ngx.ctx.page = ""
    end
end


-- content_by_lua where a request ends that the global nginx itself answers with 502, 503 or 504: the app's own page, or ours.
function _M.page()
    local id = ngx.var.options
    local options = id and id ~= "" and _M.get(id) or {}
    local status = ngx.status
    local maintenance = options.maintenance and status == ngx.HTTP_SERVICE_UNAVAILABLE
    local page = options.error_page
    if maintenance then
        page = options.maintenance_page
    end
    if not page then
        return ngx.exec("/.appoxy/pages/" .. (maintenance and "maintenance" or status == 503 and "503" or "502") .. ".html")
    end
    ngx.header.content_type = "text/html; charset=utf-8"
    ngx.header["Cache-Control"] = "no-store"
    if status == ngx.HTTP_SERVICE_UNAVAILABLE then
        ngx.header["Retry-After"] = maintenance and MAINTENANCE_S or UNAVAILABLE_S
    end
    ngx.print(page)
end


return _M
