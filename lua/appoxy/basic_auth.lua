-- Basic auth against password hashes of the form pbkdf2-sha256$ITERATIONS$SALT$HASH, checked by the OpenSSL that nginx has linked.
--
-- A check takes some 10 ms in which its worker serves nobody else: so what was right is remembered, and guesses are bounded for
-- each client, for each app, and for all.

local ffi = require "ffi"
local lrucache = require "resty.lrucache"
local networks = require "appoxy.networks"
local rates = require "appoxy.rates"

local find, lower, match, sub = string.find, string.lower, string.match, string.sub

ffi.cdef[[
const void *EVP_sha256(void);
int PKCS5_PBKDF2_HMAC(const char *pass, int passlen, const unsigned char *salt, int saltlen, int iter, const void *digest,
                      int keylen, unsigned char *out);
int CRYPTO_memcmp(const void *a, const void *b, size_t len);
int RAND_bytes(unsigned char *buf, int num);
]]

local _M = {}

local MOST_FAILURES, WINDOW_S = 10, 60
local PER_APP = { count = 5, seconds = 1, burst = 10 }
local PER_NGINX = { count = 20, seconds = 1, burst = 20 }
local KEPT_S = 3600
local HASH_BYTES = 32

-- What was right, by a digest of it that nobody can turn back or forge without this worker's secret.
local right = lrucache.new(5000)
local secret


local function digest(id, credentials)
    if not secret then
        local bytes = ffi.new("unsigned char[32]")
        assert(ffi.C.RAND_bytes(bytes, 32) == 1)
        secret = ffi.string(bytes, 32)
    end
    return ngx.hmac_sha1(secret, id .. " " .. credentials)
end


local function verify(stored, password)
    local iterations, salt, hash = match(stored or "", "^pbkdf2%-sha256%$(%d+)%$([^$]+)%$([^$]+)$")
    salt, hash = salt and ngx.decode_base64(salt), hash and ngx.decode_base64(hash)
    if not salt or not hash or #hash ~= HASH_BYTES then
        ngx.log(ngx.ERR, "a password's hash can't be read")
        return false
    end
    local out = ffi.new("unsigned char[?]", HASH_BYTES)
    return ffi.C.PKCS5_PBKDF2_HMAC(password, #password, salt, #salt, tonumber(iterations), ffi.C.EVP_sha256(), HASH_BYTES, out) == 1
        and ffi.C.CRYPTO_memcmp(out, hash, HASH_BYTES) == 0
end


-- Whether the header names one of `users` (name → hash) with its password: true, or false and the seconds to wait before the next
-- guess, nil if it may come now. `id` names the users' version, `uid` the app.
function _M.admits(users, id, uid, header)
    if not header or #header > 1000 or lower(sub(header, 1, 6)) ~= "basic " then
        return false
    end
    local credentials = ngx.decode_base64(match(header, "^%S+ +(%S+)$") or "")
    local at = credentials and find(credentials, ":", 1, true)
    if not at then
        return false
    end
    local key = digest(id, credentials)
    if right:get(key) then
        return true
    end
    local guesses = "guesses " .. uid .. networks.client(ngx.var.binary_remote_addr)
    local wait = rates.full(guesses, MOST_FAILURES)
    if wait then
        return false, wait
    end
    wait = rates.wait("checks " .. uid, PER_APP)
    if wait == 0 then
        wait = rates.wait("checks", PER_NGINX)
    end
    if wait > 0 then
        return false, wait
    end
    local user = sub(credentials, 1, at - 1)
    -- As long for a name that is not there as for one that is.
    local stored = users[user] or select(2, next(users))
    if verify(stored, sub(credentials, at + 1)) and users[user] then
        right:set(key, true, KEPT_S)
        return true
    end
    rates.count(guesses, WINDOW_S)
    return false
end


return _M
