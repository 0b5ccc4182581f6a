-- luacheck: read_globals redis KEYS ARGV
-- Repairs the options: adds those that are missing, and removes those that no route uses, if the routes are still at the version at
-- which that was found out. A change since may have brought one of them back.
-- KEYS: the version of the routes, the options.
-- ARGV: that version, number of options to add, for each its id and JSON, then the ids to remove.
-- Returns how many were missing, or -1 where the routes are at another version.
local first = 3 + 2 * ARGV[2]
local added = 0
for i = 3, first - 1, 2 do
    if redis.call('HGET', KEYS[2], ARGV[i]) ~= ARGV[i + 1] then
        redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
        added = added + 1
    end
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return -1
end
for i = first, #ARGV do
    redis.call('HDEL', KEYS[2], ARGV[i])
end
return added
