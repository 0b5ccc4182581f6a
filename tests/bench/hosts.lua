-- luacheck: globals wrk setup request thread
-- For wrk: each request asks for one of $HOSTS hosts, all as often, or by Zipf's law where $ZIPF is 1.

local count = tonumber(os.getenv("HOSTS"))
local zipf = os.getenv("ZIPF") == "1"
local exp, floor, log, random = math.exp, math.floor, math.log, math.random

local started = 0


function setup(thread)
    started = started + 1
    thread:set("seed", os.time() * 100 + started)
end


function init()
    math.randomseed(wrk.thread:get("seed"))
end


-- Of ranks, those up to k get log(k) / log(count) of the requests.
function request()
    local n = zipf and floor(exp(random() * log(count + 1))) - 1 or floor(random() * count)
    return "GET / HTTP/1.1\r\nHost: www.shop-" .. n .. ".example.net\r\n\r\n"
end
