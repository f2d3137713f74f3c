-- What all scripts share. It is put in front of each of them, and made anew by each call: so it is kept small.
--
-- KEYS[1] is the prefix of the ledger's keys, "{name}:". Every other key is made of it, so all lie in one slot of a
-- cluster; the first line of a script, "#!lua", makes a server refuse one that does not.
--
-- A row is a field of x and one of d, both named by its id. In x stands what is fixed when it is enqueued, which the
-- scripts never look into (encode.go), in d what moves. They are apart because a script pays for each byte of each string
-- it touches: Lua hashes them all. What moves:
--
--   byte 1 state, 2 flags (2), 4 delivery (4), 8 worker (16), 24 started (8),
--   32 excused (4), 36 errors (4), 40 losses (4), 44 waits (4), 48 due (8), 56 deadline (8), 64 finished (8), 72 created (8)
--
-- Instants are microseconds since 1970, 0 for none; they fit a double exactly. What few rows have stands in a hash of its
-- own, and a flag says so.

local call, byte, sub, band, pack, unpack_ = redis.call, string.byte, string.sub, bit.band, struct.pack, struct.unpack
local P = KEYS[1]
local X, D = P .. 'x', P .. 'd'
local HEAD, WHOLE = '<BHI4c16i8', '<BHI4c16i8I4I4I4I4i8i8i8i8'
local NOBODY = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
local PENDING, RUNNING, COMPLETED = 0, 1, 2
local PARKED, STOP, REASON, ERROR, UNDO, PROGRESS, CHECKPOINT, RESULT = 1, 2, 4, 8, 16, 32, 64, 128
local ATTEMPTS, KEYED, FORNOW, APART, KEYLESS = 256, 512, 1024, 2048, 4096

-- The instant of a call: the one it brings, in tests, or the server's.
local function clock(given)
	if given ~= '' then return tonumber(given) end
	local t = call('TIME')
	return t[1] * 1000000 + t[2]
end

-- Another call asked everybody to stand back for a moment (unit.go).
local function gated(token)
	local holder = call('GET', P .. 'gate')
	return holder and holder ~= token
end

local function alive(worker, now)
	local till = call('ZSCORE', P .. 'leases', worker)
	return till and tonumber(till) > now
end

-- A command with any number of arguments; their number per member must divide 4000.
local function many(cmd, key, args)
	local n = #args
	if n > 0 and n <= 4000 then return call(cmd, key, unpack(args)) end
	for i = 1, n, 4000 do call(cmd, key, unpack(args, i, math.min(i + 3999, n))) end
end

local function fetch(key, ids)
	local n = #ids
	if n == 0 then return {} end
	if n <= 4000 then return call('HMGET', key, unpack(ids)) end
	local all = {}
	for i = 1, n, 4000 do
		for _, v in ipairs(call('HMGET', key, unpack(ids, i, math.min(i + 3999, n)))) do all[#all + 1] = v end
	end
	return all
end

local function count(queue, state, by)
	local field = queue .. '\0' .. state
	if call('HINCRBY', P .. 'counts', field, by) == 0 then call('HDEL', P .. 'counts', field) end
end
