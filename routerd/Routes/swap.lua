-- luacheck: read_globals redis KEYS ARGV
-- Puts a whole new table of routes in place, if the version is still what it was when the table was begun.
-- KEYS: the routes, their version, the newest changes, the new table (absent when there are no routes).
-- ARGV: channel, version before ('' = none), new version.
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then
    redis.call('DEL', KEYS[4])
    return 0
end
if redis.call('EXISTS', KEYS[4]) == 1 then
    redis.call('RENAME', KEYS[4], KEYS[1])
    redis.call('PERSIST', KEYS[1])
else
    redis.call('DEL', KEYS[1])
end
redis.call('DEL', KEYS[3])
redis.call('SET', KEYS[2], ARGV[3])
redis.call('PUBLISH', ARGV[1], ARGV[3] .. ' *')
return 1
