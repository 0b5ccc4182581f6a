-- How often something may happen, counted in a dict that all workers share.

local rates = ngx.shared.rates

local _M = {}


-- Whether one more is within { count, seconds, burst }: GCRA, by the one time at which all so far would have been due had they
-- come evenly. Returns 0, or the seconds to wait. Two workers that ask at the same moment may count one for two, which lets no
-- more than one too many through.
function _M.wait(key, rate)
    local now = ngx.now()
    local interval = rate.seconds / rate.count
    local due = rates:get(key)
    if not due or due < now then
        due = now
    end
    local ahead = due - now - rate.burst * interval
    -- A hair's breadth, since the sums are not exact.
    if ahead > 1e-6 then
        return ahead
    end
    due = due + interval
    rates:set(key, due, due - now + 1)
    return 0
end


-- Whether something happened less than `most` times in the window that it is counted in; else the seconds to wait.
function _M.full(key, most)
    local count = rates:get(key)
    if count and count >= most then
        return math.max(1, rates:ttl(key) or 1)
    end
    return nil
end


function _M.count(key, seconds)
    rates:incr(key, 1, 0, seconds)
end


return _M
