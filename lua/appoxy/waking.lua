-- The page for a browser whose app is being started: as rendered, but with the time that droidd expects in place of {time}.

local _M = {}

local page


local function words(seconds)
    if not seconds then
        return "a few seconds"
    end
    return seconds == 1 and "about a second" or "about " .. seconds .. " seconds"
end


local function read()
    local file, err = io.open(ngx.config.prefix() .. "pages/waking.html")
    if not file then
        ngx.log(ngx.ERR, "no waking page: ", err)
        return nil
    end
    local text = file:read("*a")
    file:close()
    return text
end


-- content_by_lua, after an answer of the hook.
function _M.page()
    page = page or read()
    local seconds = tonumber(string.match(ngx.var.upstream_http_x_appoxy_wakes_in or "", "^%d+$"))
    ngx.header.content_type = "text/html; charset=utf-8"
    ngx.header.cache_control = "no-store"
    ngx.header.retry_after = seconds or 5
    -- Not "own", for which an app may have a page of its own: this is no error.
    ngx.header.x_appoxy_page = "waking"
    local text = page or "The app was asleep and is starting, which takes {time}.\n"
    ngx.print((string.gsub(text, "{time}", words(seconds))))
end


return _M
