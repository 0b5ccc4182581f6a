-- How many connections nginx has open, by what is done with them.

local _M = {}

local STATES = { "reading", "writing", "waiting" }


-- nil where nginx was built without the module that counts them. In the context of a request only.
function _M.counts()
    local counts
    for _, state in ipairs(STATES) do
        local count = tonumber(ngx.var["connections_" .. state])
        if count then
            counts = counts or {}
            counts[state] = count
        end
    end
    return counts
end


return _M
