-- Snapshot files, which a daemon writes and nginx reads once, at its start, so that sites serve with every daemon away.

local _M = {}


-- Calls take(line) for each line, unless `dict` was filled before: a reload keeps it, and then it is newer than the file.
-- Returns how many lines were taken; no file is no fault, as on the first start of all.
function _M.load(dict, path, take)
    if dict:get("loaded") then
        return 0
    end
    dict:set("loaded", true)
    local file, err = io.open(path, "r")
    if not file then
        ngx.log(ngx.NOTICE, "no snapshot: ", err)
        return 0
    end
    local lines, taken = 0, 0
    for line in file:lines() do
        lines = lines + 1
        if take(line) then
            taken = taken + 1
        end
    end
    file:close()
    ngx.log(ngx.NOTICE, "snapshot ", path, ": took ", taken, " of ", lines, " lines")
    return taken
end


return _M
