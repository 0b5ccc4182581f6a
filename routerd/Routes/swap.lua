-- luacheck: read_globals redis KEYS ARGV
-- Puts a whole new table of routes in place, with their options, if the version is still what it was when they were begun.
-- KEYS: the routes, their version, the newest changes, the options, the new routes, the new options.
-- ARGV: channel, version before ('' = none), new version, how many routes and how many options the new ones have.
local function whole(key, count)
    return redis.call('HLEN', key) == tonumber(count)
end
-- Redis may have been emptied since they were begun: half of them is not to be taken for all.
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] or not whole(KEYS[5], ARGV[4]) or not whole(KEYS[6], ARGV[5]) then
    redis.call('DEL', KEYS[5], KEYS[6])
    return 0
end
local function place(new, key)
    if redis.call('EXISTS', new) == 1 then
        redis.call('RENAME', new, key)
        redis.call('PERSIST', key)
    else
        redis.call('DEL', key)
    end
end
place(KEYS[6], KEYS[4])
place(KEYS[5], KEYS[1])
redis.call('DEL', KEYS[3])
redis.call('SET', KEYS[2], ARGV[3])
redis.call('PUBLISH', ARGV[1], ARGV[3] .. ' *')
return 1
