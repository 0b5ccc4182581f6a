-- What routerd asks the global nginx at its control socket.

local cjson = require "cjson"
local connections = require "appoxy.connections"
local routes = require "appoxy.routes"

local _M = {}


-- GET /routes/<host>
function _M.route()
    ngx.header.content_type = "application/json"
    ngx.say(cjson.encode(routes.explain(string.lower(ngx.var.explained))))
end


-- GET /counts
function _M.counts()
    local counts = routes.counts()
    counts.connections = connections.counts()
    ngx.header.content_type = "application/json"
    ngx.say(cjson.encode(counts))
end


return _M
