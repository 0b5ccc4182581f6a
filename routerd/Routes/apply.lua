-- luacheck: read_globals redis KEYS ARGV
-- Applies route changes, in order, if Redis is at the version that the writer believes it to be at: a publisher that
-- lost its lead can't write back the past, nor leave out what came between.
-- KEYS: the routes, their version, the newest changes, the options.
-- ARGV: channel, version before, number of options, for each its id and JSON, then for each change its version, host and
-- target ('' = none).
if redis.call('GET', KEYS[2]) ~= ARGV[2] then
    return 0
end
local first = 4 + 2 * ARGV[3]
-- Before the routes that name them: an nginx that finds a route without its options lets nobody through.
for i = 4, first - 1, 2 do
    redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1])
end
for i = first, #ARGV, 3 do
    if ARGV[i + 2] == '' then
        redis.call('HDEL', KEYS[1], ARGV[i + 1])
    else
        redis.call('HSET', KEYS[1], ARGV[i + 1], ARGV[i + 2])
    end
end
redis.call('SET', KEYS[2], ARGV[#ARGV - 2])
for i = first, #ARGV, 3 do
    redis.call('RPUSH', KEYS[3], ARGV[i] .. ' ' .. ARGV[i + 1])
end
-- An nginx that was cut off catches up by these; one that missed more looks at every route.
redis.call('LTRIM', KEYS[3], -10000, -1)
for i = first, #ARGV, 3 do
    redis.call('PUBLISH', ARGV[1], ARGV[i] .. ' ' .. ARGV[i + 1])
end
return 1
