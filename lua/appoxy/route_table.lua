-- The routes in memory that all workers of this nginx share: hostname → "uid server[,server…] flags".
--
--   table.open(dict)                                      -- in init_by_lua, before the workers are forked
--   table.set("shop.example.org", "abcdefg ds1 -", 7, 42) -- Redis said so in epoch 7 at its version 42
--   table.get("shop.example.org")                         --> "abcdefg", "ds1 -", 7
--
-- A lua_shared_dict walks a tree of some twenty nodes for one of a million keys, and moves the key in a list; each step waits
-- for memory. Here it is one slot and one route: two such waits, half the memory, and no lock to read.
--
-- Slots are a hash table with linear probing, bounded: a host that finds no slot near its own does not fit. Routes lie in an arena
-- in pieces of 16 bytes; they are never changed while a slot leads to them, but for their epoch. So a reader needs no lock: it looks
-- again whether the slot leads there still, and whether it is still the route with that serial number, which each one gets before
-- its text is written. Writers take a mutex, which the kernel frees if a writer dies.
--
-- An epoch ends when any route may have changed unheard. What was said in an older one is stale: good only while Redis is away.
-- Within an epoch, the version of Redis at which a route was read keeps a slow reader from putting back what was before.

local bit = require "bit"
local ffi = require "ffi"

local C = ffi.C
local band, rshift = bit.band, bit.rshift
local byte, find = string.byte, string.find
local cast, copy, str = ffi.cast, ffi.copy, ffi.string
local tonumber = tonumber

ffi.cdef [[
    typedef struct {
        uint32_t epoch;
        uint32_t trusted;   /* one more epoch whose routes are as Redis has them, or 0 */
        uint32_t read;      /* the epoch in which every route of Redis was read, or 0 */
        uint32_t used;      /* pieces of the arena */
        uint32_t count;
        uint32_t wildcards; /* of them */
        uint32_t misfits;   /* routes that found no place */
        uint32_t serial;    /* of the newest route */
        uint64_t seed;
        double version;     /* all changes up to this one are in */
        double deleted;     /* the newest version at which a route was deleted in this epoch */
        uint32_t free[64];  /* by size in pieces: the first freed route */
        char mutex[128] __attribute__((aligned(16)));
    } appoxy_head;
    typedef struct {
        uint32_t hash;
        uint32_t at;        /* piece of the arena, or EMPTY or FREED */
    } appoxy_slot;
    typedef struct {
        double version;
        uint32_t epoch;     /* once freed: the next freed route */
        uint32_t serial;
        uint8_t host_size;
        uint8_t uid_size;
        uint16_t rest_size;
        char text[12];      /* host, uid and the rest, without what is between them */
    } appoxy_route;

    void *mmap(void *address, size_t size, int protection, int flags, int file, long offset);
    int madvise(void *address, size_t size, int advice);
    int memcmp(const void *a, const void *b, size_t size);
    int pthread_mutexattr_init(void *attributes);
    int pthread_mutexattr_setpshared(void *attributes, int shared);
    int pthread_mutexattr_setrobust(void *attributes, int robust);
    int pthread_mutex_init(void *mutex, const void *attributes);
    int pthread_mutex_lock(void *mutex);
    int pthread_mutex_consistent(void *mutex);
    int pthread_mutex_unlock(void *mutex);
]]

local _M = {}

local SLOTS = 2 ^ 21
local NEAR = 512                -- slots looked at for a host; among 1 M hosts some one is 64 away
local PIECES = 2 ^ 24           -- of the arena, 16 bytes each; only what is used takes memory
local MOST_PIECES = 63          -- of a route
local EMPTY, FREED, FIRST = 0, 1, 2
local STALE = 0                 -- an epoch that never is
local ROUTE_HEAD = 20

local HEAD_BYTES = 4096
local SLOT_BYTES = SLOTS * 8 + 4096
local BYTES = HEAD_BYTES + SLOT_BYTES + PIECES * 16

-- Linux's numbers, as LuaJIT has no headers.
local READ_WRITE = 3
local SHARED_ANONYMOUS_NORESERVE = 0x4021
local HUGE_PAGES = 14
local PROCESS_SHARED, ROBUST, OWNER_DEAD = 1, 1, 130

-- Elsewhere than on x86 a reader could see a writer's steps in another order; there readers take the mutex, too.
local ORDERED = jit.arch == "x64"

local head, slots, arena, seed
local route_pointer = ffi.typeof("appoxy_route *")
local words_pointer = ffi.typeof("const uint64_t *")
local MULTIPLIER = 0x9e3779b97f4a7c15ULL


local function lock()
    -- Whatever a dead writer was at, a route is linked as its last step.
    if C.pthread_mutex_lock(head.mutex) == OWNER_DEAD then
        C.pthread_mutex_consistent(head.mutex)
    end
end


local function unlock()
    C.pthread_mutex_unlock(head.mutex)
end


local function draw_seed()
    local file = assert(io.open("/dev/urandom", "rb"))
    file:setvbuf("no")  -- with a buffer it would read far more than it needs
    local bytes = file:read(8)
    file:close()
    return cast(words_pointer, bytes)[0]
end


local function make()
    local memory = C.mmap(nil, BYTES, READ_WRITE, SHARED_ANONYMOUS_NORESERVE, -1, 0)
    if cast("intptr_t", memory) == -1 then
        error("no memory for the routes")
    end
    -- Where Linux has them to give: each lookup then waits for one page table less.
    C.madvise(memory, BYTES, HUGE_PAGES)
    local new = cast("appoxy_head *", memory)
    local attributes = ffi.new("char[64]")
    C.pthread_mutexattr_init(attributes)
    C.pthread_mutexattr_setpshared(attributes, PROCESS_SHARED)
    C.pthread_mutexattr_setrobust(attributes, ROBUST)
    C.pthread_mutex_init(new.mutex, attributes)
    new.used = FIRST
    new.epoch = 2
    new.seed = draw_seed()
    return cast("char *", memory)
end


-- `dict` remembers where the table is: like the dict itself it lives on in the master over reloads, and ends with it.
function _M.open(dict)
    local known = dict:get("table")
    local memory = known and cast("char *", known) or make()
    if not known then
        dict:set("table", tonumber(cast("intptr_t", memory)))
    end
    head = cast("appoxy_head *", memory)
    slots = cast("appoxy_slot *", memory + HEAD_BYTES)
    arena = memory + HEAD_BYTES + SLOT_BYTES
    seed = head.seed
end


-- Eight bytes at a time, the last ones overlapping. The seed is secret, so that nobody can make up hosts that collide.
local function hash_of(host)
    local size = #host
    local hash = seed + size
    if size < 8 then
        for i = 1, size do
            hash = (hash + byte(host, i)) * MULTIPLIER
        end
        return tonumber(rshift(hash, 32))
    end
    local words = cast(words_pointer, host)
    for i = 0, rshift(size, 3) - 1 do
        hash = (hash + words[i]) * MULTIPLIER
        hash = hash + rshift(hash, 29)
    end
    hash = (hash + cast(words_pointer, cast("const char *", host) + (size - 8))[0]) * MULTIPLIER
    return tonumber(rshift(hash, 32))
end


-- The route of a host, its slot, its piece, and the serial number that it had before it was compared; else nil and the slot where
-- it would go, if there is one near.
local function locate(host, hash)
    local size = #host
    local slot, gap = band(hash, SLOTS - 1), nil
    -- Mostly it is the first one. A loop in the path of each request would be compiled apart from it.
    local first = slots[slot].at
    if first >= FIRST and slots[slot].hash == hash then
        local route = cast(route_pointer, arena + first * 16)
        local serial = route.serial
        if route.host_size == size and C.memcmp(route.text, host, size) == 0 then
            return route, slot, first, serial
        end
    end
    for _ = 1, NEAR do
        local at = slots[slot].at
        if at == EMPTY then
            return nil, gap or slot
        elseif at == FREED then
            gap = gap or slot
        elseif slots[slot].hash == hash then
            local route = cast(route_pointer, arena + at * 16)
            local serial = route.serial
            if route.host_size == size and C.memcmp(route.text, host, size) == 0 then
                return route, slot, at, serial
            end
        end
        slot = band(slot + 1, SLOTS - 1)
    end
    return nil, gap
end


local function read(route)
    local uid = route.text + route.host_size
    return str(uid, route.uid_size), str(uid + route.uid_size, route.rest_size), route.epoch
end


-- Uid, the rest of the route, and its epoch; nil for a host that is not here.
function _M.get(host)
    local hash = hash_of(host)
    if ORDERED then
        for _ = 1, 3 do
            local route, slot, at, serial = locate(host, hash)
            if not route then
                return nil
            end
            local uid, rest, epoch = read(route)
            if slots[slot].at == at and route.serial == serial then
                return uid, rest, epoch
            end
        end
    end
    lock()
    local route = locate(host, hash)
    local uid, rest, epoch
    if route then
        uid, rest, epoch = read(route)
    end
    unlock()
    return uid, rest, epoch
end


-- The routes of the present epoch, and of one that is trusted, are as Redis has them.
function _M.is_current(epoch)
    return epoch == head.epoch or (epoch == head.trusted and epoch ~= STALE)
end

local is_current = _M.is_current


local function pieces(host_size, uid_size, rest_size)
    return rshift(ROUTE_HEAD + host_size + uid_size + rest_size + 15, 4)
end


local function free(route)
    local size = pieces(route.host_size, route.uid_size, route.rest_size)
    route.epoch = head.free[size]
    head.free[size] = (cast("char *", route) - arena) / 16
end


local function allocate(size)
    local at = head.free[size]
    if at ~= 0 then
        head.free[size] = cast(route_pointer, arena + at * 16).epoch
        return at
    end
    at = head.used
    if at + size > PIECES then
        return nil
    end
    head.used = at + size
    return at
end


local function count(host, change)
    head.count = head.count + change
    if byte(host) == 42 then -- "*"
        head.wildcards = head.wildcards + change
    end
end


local function link(host, hash, value, epoch, version, old, slot)
    local space = find(value, " ", 1, true)
    if not slot or not space or space > 255 or #host > 255 then
        return false
    end
    local uid_size, rest_size = space - 1, #value - space
    local size = pieces(#host, uid_size, rest_size)
    local at = size <= MOST_PIECES and allocate(size)
    if not at then
        return false
    end
    local new = cast(route_pointer, arena + at * 16)
    head.serial = head.serial + 1
    new.serial = head.serial
    new.epoch, new.host_size, new.uid_size, new.rest_size, new.version = epoch, #host, uid_size, rest_size, version
    local source = cast("const char *", value)
    copy(new.text, host, #host)
    copy(new.text + #host, source, uid_size)
    copy(new.text + #host + uid_size, source + space, rest_size)
    slots[slot].hash = hash
    slots[slot].at = at
    if old then
        free(old)
    else
        count(host, 1)
    end
    return true
end


local function unlink(host, route, slot)
    slots[slot].at = FREED
    free(route)
    count(host, -1)
end


-- What Redis said when it was at `version`, asked in `epoch`. It stands unless something newer was heard meanwhile; what can't be
-- told apart is kept as stale, so that it is asked for again. False where the route finds no place.
function _M.set(host, value, epoch, version)
    if not find(value, " ", 1, true) then
        return _M.delete(host, epoch, version)
    end
    local hash = hash_of(host)
    lock()
    local route, slot = locate(host, hash)
    local fits = true
    if route and epoch == head.epoch and is_current(route.epoch) and route.version > version then
        -- Newer already.
        fits = true
    elseif route and epoch ~= head.epoch then
        route.epoch = STALE
    else
        local since = epoch
        if epoch ~= head.epoch or (not route and version < head.deleted) then
            since = STALE
        end
        fits = link(host, hash, value, since, version, route, slot)
        if not fits then
            head.misfits = head.misfits + 1
            if route then
                unlink(host, route, slot)
            end
        end
    end
    unlock()
    return fits
end


-- The same for a host that has no route at that version.
function _M.delete(host, epoch, version)
    local hash = hash_of(host)
    lock()
    local route, slot = locate(host, hash)
    if epoch ~= head.epoch then
        if route then
            route.epoch = STALE
        end
    elseif not (route and is_current(route.epoch) and route.version > version) then
        if route then
            unlink(host, route, slot)
        end
        if version > head.deleted then
            head.deleted = version
        end
    end
    unlock()
end


-- Of a snapshot: what is known of the host already stays.
function _M.add(host, value, epoch, version)
    local hash = hash_of(host)
    lock()
    local route, slot = locate(host, hash)
    local fits = route ~= nil or link(host, hash, value, epoch, version, nil, slot)
    if not fits then
        head.misfits = head.misfits + 1
    end
    unlock()
    return fits
end


-- Ends the epoch: any route may have changed unheard.
function _M.flush()
    lock()
    head.epoch = head.epoch + 1
    head.trusted = 0
    head.deleted = 0
    head.misfits = 0
    unlock()
end


function _M.epoch()
    return head.epoch
end


-- Routes of this older epoch turned out to be as Redis has them, unless `epoch` has ended.
function _M.trust(older, epoch)
    lock()
    if head.epoch == epoch then
        head.trusted = older
    end
    unlock()
end


-- Forgets the stale ones among some slots, after all of Redis was read in `epoch`. Returns the slot to go on with, nil at the end.
function _M.purge(from, slots_at_once, epoch)
    local to = math.min(from + slots_at_once, SLOTS)
    lock()
    for slot = from, to - 1 do
        local at = slots[slot].at
        if at >= FIRST and head.epoch == epoch then
            local route = cast(route_pointer, arena + at * 16)
            if not is_current(route.epoch) then
                unlink(str(route.text, route.host_size), route, slot)
            end
        end
    end
    unlock()
    return to < SLOTS and to or nil
end


-- Every route of Redis was read in `epoch`. If all found a place, a host that is not here has none.
function _M.set_read(epoch)
    head.read = epoch
end


function _M.is_read()
    return head.read == head.epoch
end


function _M.is_whole()
    return head.read == head.epoch and head.misfits == 0
end


-- The last change of the routes that is in, or 0.
function _M.version()
    return head.version
end


function _M.set_version(version)
    head.version = version
end


function _M.count()
    return head.count
end


function _M.has_wildcards()
    return head.wildcards > 0
end


return _M
