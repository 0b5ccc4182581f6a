-- What droidd tells and asks the local nginx at its control socket.

local cjson = require "cjson"
local droids = require "appoxy.droids"

local _M = {}


local function refuse(status, why)
    ngx.status = status
    ngx.header.content_type = "text/plain"
    ngx.say(why)
end


-- PUT or DELETE /droids/<uid>. The dict is shared by all workers: what is answered here holds for the next request anywhere.
function _M.droid()
    local uid, method = ngx.var.named, ngx.req.get_method()
    if method == "DELETE" then
        droids.delete(uid)
        return ngx.exit(ngx.HTTP_NO_CONTENT)
    end
    if method ~= "PUT" then
        return refuse(ngx.HTTP_NOT_ALLOWED, "PUT or DELETE")
    end
    ngx.req.read_body()
    local status, peer = string.match(ngx.req.get_body_data() or "", "^%s*(%S+) (%S+)%s*$")
    if not status then
        return refuse(ngx.HTTP_BAD_REQUEST, "the body is not: <state> <ip:port>")
    end
    local ok, err = droids.put(uid, status, peer)
    if not ok then
        return refuse(err == "no memory" and 507 or ngx.HTTP_BAD_REQUEST, err)
    end
    return ngx.exit(ngx.HTTP_NO_CONTENT)
end


-- GET /droids
function _M.list()
    ngx.header.content_type = "text/plain"
    local lines = droids.lines()
    ngx.print(table.concat(lines, "\n"), #lines > 0 and "\n" or "")
end


-- GET /activity
function _M.activity()
    ngx.header.content_type = "application/json"
    ngx.say(cjson.encode(droids.activity()))
end


return _M
