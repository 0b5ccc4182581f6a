-- Checks appoxy.route_table by itself: against a plain table, and with processes that write, read and are killed at once.
--   luajit tests/lua/route_table.lua [seed]    from the top of the repository

package.path = "lua/?.lua;" .. package.path
local ffi = require "ffi"
local table_of_routes = require "appoxy.route_table"

ffi.cdef [[
    int fork(void);
    int kill(int pid, int signal);
    int waitpid(int pid, int *status, int options);
    int usleep(unsigned microseconds);
    void _exit(int status);
]]

local seed = tonumber(arg[1]) or os.time()
math.randomseed(seed)
print("seed " .. seed)

local known = {}
local dict = { get = function(_, key) return known[key] end, set = function(_, key, value) known[key] = value end }


local function fresh()
    known = {}
    table_of_routes.open(dict)
end


local function check(wanted, got, what)
    if wanted ~= got then
        error(("%s: wanted %s, got %s"):format(what, tostring(wanted), tostring(got)), 2)
    end
end


local function text(n)
    return ("u%06d"):format(n) .. " " .. ("ds%d "):format(n % 7) .. ("x"):rep(n % 40)
end


-- Sets, deletes and lookups in any order leave what they would leave in a plain table.
local function follows_a_plain_table()
    fresh()
    local model, version, count = {}, 0, 0
    for _ = 1, 300000 do
        version = version + 1
        local n = math.random(3000)
        local host = (n % 5 == 0 and "*." or "") .. ("h"):rep(n % 11) .. n .. ".example"
        if math.random(3) == 1 then
            count = count - (model[host] and 1 or 0)
            model[host] = nil
            table_of_routes.delete(host, 2, version)
        else
            count = count + (model[host] and 0 or 1)
            model[host] = text(math.random(100000))
            assert(table_of_routes.set(host, model[host], 2, version))
        end
        local asked = math.random(3000)
        host = (asked % 5 == 0 and "*." or "") .. ("h"):rep(asked % 11) .. asked .. ".example"
        local uid, rest = table_of_routes.get(host)
        check(model[host], uid and uid .. " " .. rest, host)
    end
    check(count, table_of_routes.count(), "count")
end


-- What was read of Redis before a change does not undo it, however late it is written.
local function refuses_the_past()
    fresh()
    local set, delete, get = table_of_routes.set, table_of_routes.delete, table_of_routes.get
    set("a.example", "new ds1 -", 2, 10)
    set("a.example", "old ds1 -", 2, 9)
    check("new", get("a.example"), "older version")
    delete("a.example", 2, 9)
    check("new", get("a.example"), "older delete")
    delete("a.example", 2, 11)
    set("a.example", "old ds1 -", 2, 10)
    local _, _, epoch = get("a.example")
    check(false, epoch ~= nil and table_of_routes.is_current(epoch), "set from before a delete is current")
    set("a.example", "newer ds1 -", 2, 12)
    _, _, epoch = get("a.example")
    check(true, table_of_routes.is_current(epoch), "set from after the delete is current")

    table_of_routes.flush()
    check(false, table_of_routes.is_current(epoch), "flushed")
    set("b.example", "late ds1 -", 2, 99)
    _, _, epoch = get("b.example")
    check(false, table_of_routes.is_current(epoch), "asked before the flush, so not current")
    set("a.example", "again ds1 -", 3, 1)
    local uid
    uid, _, epoch = get("a.example")
    check("again", uid, "an epoch counts its versions anew")
    check(true, table_of_routes.is_current(epoch), "current again")
    local slot = 0
    while slot do
        slot = table_of_routes.purge(slot, 100000, 3)
    end
    check(nil, (get("b.example")), "purged")
    check("again", (get("a.example")), "not purged")
end


local function tells_when_all_is_here()
    fresh()
    check(false, table_of_routes.is_whole(), "whole at first")
    table_of_routes.set_read(2)
    check(true, table_of_routes.is_whole(), "whole once read")
    table_of_routes.set(("long"):rep(60) .. ".example", ("u"):rep(7) .. " " .. ("s"):rep(2000), 2, 1)
    check(false, table_of_routes.is_whole(), "not with one that has no place")
    check(nil, (table_of_routes.get(("long"):rep(60) .. ".example")), "which is not here")
end


local HOSTS = 40


-- uid and rest of one write belong together.
local function read_forever()
    while true do
        local n = math.random(HOSTS)
        local uid, rest = table_of_routes.get("host" .. n .. ".example")
        if uid and uid .. " " .. rest ~= text(tonumber(uid:sub(2))) then
            io.stderr:write("torn: ", uid, " ", rest, "\n")
            ffi.C._exit(1)
        end
    end
end


local function write_forever()
    local version = 0
    while true do
        version = version + 1
        local host = "host" .. math.random(HOSTS) .. ".example"
        if math.random(4) == 1 then
            table_of_routes.delete(host, 2, version)
        else
            table_of_routes.set(host, text(math.random(999999)), 2, version)
        end
    end
end


local function start(run)
    local child = ffi.C.fork()
    if child == 0 then
        math.randomseed(os.time() + tonumber(io.open("/proc/self/stat"):read("*n")))
        local ran, err = pcall(run)
        io.stderr:write(tostring(ran), " ", tostring(err), "\n")
        ffi.C._exit(2)
    end
    return child
end


local function ended(child, how)
    local status = ffi.new("int[1]")
    return ffi.C.waitpid(child, status, how) == child
end


-- Writers are killed wherever they are, again and again: nobody ever hangs, and no reader ever sees half a route.
local function outlives_its_writers()
    fresh()
    local reader = start(read_forever)
    for _ = 1, 60 do
        local writers = { start(write_forever), start(write_forever) }
        ffi.C.usleep(30000)
        for _, writer in ipairs(writers) do
            ffi.C.kill(writer, 9)
            ended(writer, 0)
        end
        -- Hangs if a dead writer holds the mutex; then the test's time limit ends it.
        table_of_routes.set("host1.example", text(1), 2, 1e15)
        check("u000001", (table_of_routes.get("host1.example")), "a write after the kill")
        table_of_routes.delete("host1.example", 2, 1e15)
    end
    check(false, ended(reader, 1), "the reader ended")
    ffi.C.kill(reader, 9)
    ended(reader, 0)
end


for _, run in ipairs { follows_a_plain_table, refuses_the_past, tells_when_all_is_here, outlives_its_writers } do
    run()
end
print("ok")
