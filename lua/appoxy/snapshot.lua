-- Snapshot files, which a daemon writes and nginx reads once, at its start, so that sites serve with every daemon away.

local _M = {}

local CHUNK = 65536


-- Calls take(line) for each line, unless `dict` was filled before: a reload keeps it, and then it is newer than the file.
-- Returns how many lines were taken; no file is no fault, as on the first start of all. `pause`, where given, is called every
-- few milliseconds; once it returns false the rest is left, and the next load() begins anew.
function _M.load(dict, path, take, pause)
    if dict:get("loaded") then
        return 0
    end
    local file, err = io.open(path, "r")
    if not file then
        ngx.log(ngx.NOTICE, "no snapshot: ", err)
        dict:set("loaded", true)
        return 0
    end
    local lines, taken = 0, 0
    local ended
    repeat
        -- A line that the chunk cuts is read to its end.
        local chunk, tail = file:read(CHUNK, "*l")
        ended = not chunk
        for line in string.gmatch((chunk or "") .. (tail or ""), "[^\n]+") do
            lines = lines + 1
            if take(line) then
                taken = taken + 1
            end
        end
    until ended or (pause and not pause())
    file:close()
    if ended then
        dict:set("loaded", true)
        ngx.log(ngx.NOTICE, "snapshot ", path, ": took ", taken, " of ", lines, " lines")
    end
    return taken
end


return _M
