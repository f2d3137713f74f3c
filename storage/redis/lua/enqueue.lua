-- Writes rows that belong to no flow.
-- KEYS  1 prefix
-- ARGV  1 now or "", 2 "refuse" when a duplicate is an error, 3 what to publish or "", 4 claim request or "",
--       5 rows, 6 number of queues, then these, number of names, these, number of tags, these, keys in the order of rows
-- A row: id (16), flags (2), worker (16), queue (4), priority (1), name (4), named (1: ordered or migration), delay (8),
-- retry for (8), unique for (8), number of tags (2), these (4 each), length of the fixed part (4), that, and if it stands apart length of
-- the input (4) and the input.
-- Gives {"ok", holders, claimed}: 16 bytes for each row, the holder of its key when it was left out, or "" when none was;
--       {"repeat"}: there is one of the rows already, nothing was written; {"duplicate", number, holder}; {"lease"}; {"gated"}
if gated('') then return {'gated'} end
local now, refuse = clock(ARGV[1]), ARGV[2] == 'refuse'
if ARGV[4] ~= '' and not alive(sub(ARGV[4], 1, 16), now) then return {'lease'} end

local at = 6
local function texts()
	local list = {}
	for i = 1, tonumber(ARGV[at]) do list[i] = ARGV[at + i] end
	at = at + 1 + #list
	return list
end
local queues, names, tags = texts(), texts(), texts()

-- All is read and decided before anything is written, because a script cannot take back what it wrote.
local rows, ids, here = {}, {}, 1
while here <= #ARGV[5] do
	local r, tagged, size = {}, nil, nil
	r.id, r.flags, r.worker, r.queue, r.priority, r.name, r.named, r.delay, r.retry, r.lasts, tagged, here =
		unpack_('<c16Hc16I4BI4Bi8i8i8H', ARGV[5], here)
	if tagged > 0 then
		r.tags = {}
		for i = 1, tagged do r.tags[i], here = unpack_('<I4', ARGV[5], here) end
	end
	size, here = unpack_('<I4', ARGV[5], here)
	r.fixed = sub(ARGV[5], here, here + size - 1)
	here = here + size
	if band(r.flags, APART) ~= 0 then
		size, here = unpack_('<I4', ARGV[5], here)
		r.input = sub(ARGV[5], here, here + size - 1)
		here = here + size
	end
	rows[#rows + 1], ids[#ids + 1] = r, r.id
end
for _, there in ipairs(fetch(D, ids)) do
	if there then return {'repeat'} end
end
local mine, losers, left = {}, {}, false
for i, r in ipairs(rows) do
	if band(r.flags, KEYED) ~= 0 then
		r.key = ARGV[at]
		at = at + 1
		local holder = mine[r.key] or call('HGET', P .. 'holders', r.key)
		if holder and not mine[r.key] then -- one that waits loses its key in time
			local lasts = call('HGET', P .. 'lasts', holder)
			local d = lasts and call('HGET', D, holder)
			if d and byte(d) == PENDING and now >= unpack_('<i8', d, 72) + tonumber(lasts) then
				losers[holder] = d
				holder = nil
			end
		end
		if holder then
			if refuse then return {'duplicate', i, holder} end
			r.holder, left = holder, true
		else
			mine[r.key] = r.id
		end
	end
end

for id, d in pairs(losers) do
	local state, flags, delivery, worker, started = unpack_(HEAD, d)
	call('HSET', D, id, pack(HEAD, state, flags - KEYED + KEYLESS, delivery, worker, started) .. sub(d, 32))
	call('HDEL', P .. 'keys', id)
	call('HDEL', P .. 'lasts', id)
end
local x, ds, levels, byname, counts, ordered, holders = {}, {}, {}, {}, {}, {}, {}
local written = {} -- the server takes longer over a number than over a string
local function digits(n)
	local s = written[n]
	if not s then
		s = string.format('%.0f', n)
		written[n] = s
	end
	return s
end
local nowtext = digits(now)
local function into(map, key, a, b)
	local list = map[key]
	if not list then
		list = {}
		map[key] = list
	end
	local n = #list
	list[n + 1], list[n + 2] = a, b
end
for _, r in ipairs(rows) do
	if r.holder then
		holders[#holders + 1] = r.holder
	else
		local id, due, deadline, n = r.id, now + r.delay, 0, #x
		if left then holders[#holders + 1] = NOBODY end
		if r.retry > 0 then deadline = due + r.retry end
		x[n + 1], x[n + 2] = id, r.fixed
		ds[n + 1], ds[n + 2] = id, pack(WHOLE, PENDING, r.flags, 0, r.worker, 0, 0, 0, 0, 0, due, deadline, 0, now)
		local queue = queues[r.queue]
		into(levels, 'q:' .. queue .. ':' .. r.priority, digits(due), id)
		into(byname, names[r.name], nowtext, id)
		counts[queue] = (counts[queue] or 0) + 1
		if r.named == 1 then ordered[#ordered + 1] = names[r.name] end
		if r.input then call('HSET', P .. 'input', id, r.input) end
		if r.key then
			call('HSET', P .. 'holders', r.key, id)
			call('HSET', P .. 'keys', id, r.key)
			if r.lasts > 0 then call('HSET', P .. 'lasts', id, r.lasts) end
		end
		if r.worker ~= NOBODY then
			call('SADD', P .. 'held:' .. r.worker, id)
			if call('HEXISTS', P .. 'left', r.worker) == 1 then call('SADD', P .. 'lost', r.worker) end
		end
		for _, tag in ipairs(r.tags or {}) do call('ZADD', P .. 't:' .. tags[tag], now, id) end
	end
end
many('HSET', X, x)
many('HSET', D, ds)
for level, list in pairs(levels) do many('ZADD', P .. level, list) end
for name, list in pairs(byname) do
	many('ZADD', P .. 'n:' .. name, list)
	call('SADD', P .. 'names', name)
end
for queue, n in pairs(counts) do count(queue, 'pending', n) end
many('SADD', P .. 'ordered', ordered)
if ARGV[3] ~= '' then call('PUBLISH', P .. 'wake', ARGV[3]) end
local got = ''
if ARGV[4] ~= '' then got = claimed(now, ARGV[4]) end
return {'ok', table.concat(holders), got}
