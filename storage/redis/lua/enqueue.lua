-- Writes rows that belong to no flow. With a claim it has lua/claimed.lua in front.
-- KEYS  1 prefix
-- ARGV  1 now or "", 2 "refuse" when a duplicate is an error, 3 what to publish or "", 4 claim request or "",
--       5 rows, 6 number of queues, then these, number of names, these, number of tags, these, keys in the order of rows
-- A row: id (16), flags (2), worker (16), queue (4), priority (1), name (4), named (1: ordered or migration), delay (8),
-- retry for (8), unique for (8), number of tags (2), these (4 each), length of x (4), x, and if it stands apart length of
-- the input (4) and the input.
-- Gives {"ok", holders, claimed}: 16 bytes for each row, the holder of its key when it was left out, or "" when none was;
--       {"repeat"}: there is one of the rows already, nothing was written; {"duplicate", number, holder}; {"lease"}; {"gated"}
if gated('') then return {'gated'} end
local now, refuse, blob = clock(ARGV[1]), ARGV[2] == 'refuse', ARGV[5]
if ARGV[4] ~= '' and not alive(sub(ARGV[4], 1, 16), now) then return {'lease'} end
local queues = 6
local names = queues + ARGV[queues] + 1
local tags = names + ARGV[names] + 1
local nextkey = tags + ARGV[tags] + 1

-- All is read and decided before anything is written, because a script cannot take back what it wrote.
local nowtext = string.format('%.0f', now) -- the server takes longer over a number than over a string
local ids, x, ds, levels, byname, counts, holders, ordered, more = {}, {}, {}, {}, {}, {}, {}, {}, {}
local mine, losers, left, refused = {}, {}, false, nil
local here, n, size = 1, 0, #blob
while here <= size do
	local id, flags, worker, queue, priority, name, named, delay, retry, lasts, tagged
	id, flags, worker, queue, priority, name, named, delay, retry, lasts, tagged, here = unpack_('<c16Hc16I4BI4Bi8i8i8H', blob, here)
	n = n + 1
	ids[n] = id
	local tagsat, length = here, nil
	length, here = unpack_('<I4', blob, here + 4 * tagged)
	local fixed = sub(blob, here, here + length - 1)
	here = here + length
	local input
	if band(flags, APART) ~= 0 then
		length, here = unpack_('<I4', blob, here)
		input = sub(blob, here, here + length - 1)
		here = here + length
	end
	local holder, key
	if band(flags, KEYED) ~= 0 then
		key = ARGV[nextkey]
		nextkey = nextkey + 1
		holder = mine[key]
		if not holder then
			holder = call('HGET', P .. 'holders', key)
			local waits = holder and call('HGET', P .. 'lasts', holder)
			local d = waits and call('HGET', D, holder)
			if d and byte(d) == PENDING and now >= unpack_('<i8', d, 72) + waits then -- one that waits loses its key in time
				losers[holder] = d
				holder = false
			end
		end
		if holder and refuse and not refused then refused = {'duplicate', n, holder} end
		if not holder then mine[key] = id end
	end
	if holder then
		holders[n], left = holder, true
	else
		local due, deadline, duetext, at = now + delay, 0, nowtext, #x
		if retry > 0 then deadline = due + retry end
		if delay ~= 0 then duetext = string.format('%.0f', due) end
		holders[n] = NOBODY
		x[at + 1], x[at + 2] = id, fixed
		ds[at + 1], ds[at + 2] = id, pack(WHOLE, PENDING, flags, 0, worker, 0, 0, 0, 0, 0, due, deadline, 0, now)
		local level = queue * 8 + priority
		local list = levels[level]
		if list then
			at = #list
			list[at + 1], list[at + 2] = duetext, id
		else
			levels[level] = {duetext, id}
		end
		list = byname[name]
		if list then
			at = #list
			list[at + 1], list[at + 2] = nowtext, id
		else
			byname[name] = {nowtext, id}
		end
		counts[queue] = (counts[queue] or 0) + 1
		if named == 1 then ordered[#ordered + 1] = ARGV[names + name] end
		if input then more[#more + 1] = {'HSET', P .. 'input', id, input} end
		if key then
			more[#more + 1] = {'HSET', P .. 'holders', key, id}
			more[#more + 1] = {'HSET', P .. 'keys', id, key}
			if lasts > 0 then more[#more + 1] = {'HSET', P .. 'lasts', id, string.format('%.0f', lasts)} end
		end
		if worker ~= NOBODY then
			more[#more + 1] = {'SADD', P .. 'held:' .. worker, id}
			if call('HEXISTS', P .. 'left', worker) == 1 then more[#more + 1] = {'SADD', P .. 'lost', worker} end
		end
		for i = 0, tagged - 1 do
			more[#more + 1] = {'ZADD', P .. 't:' .. ARGV[tags + unpack_('<I4', blob, tagsat + 4 * i)], nowtext, id}
		end
	end
end
for _, there in ipairs(fetch(D, ids)) do
	if there then return {'repeat'} end
end
if refused then return refused end

for id, d in pairs(losers) do
	local state, flags, delivery, worker, started = unpack_(HEAD, d)
	call('HSET', D, id, pack(HEAD, state, flags - KEYED + KEYLESS, delivery, worker, started) .. sub(d, 32))
	call('HDEL', P .. 'keys', id)
	call('HDEL', P .. 'lasts', id)
end
many('HSET', X, x)
many('HSET', D, ds)
for level, list in pairs(levels) do
	many('ZADD', P .. 'q:' .. ARGV[queues + math.floor(level / 8)] .. ':' .. level % 8, list)
end
for name, list in pairs(byname) do
	many('ZADD', P .. 'n:' .. ARGV[names + name], list)
	call('SADD', P .. 'names', ARGV[names + name])
end
for queue, by in pairs(counts) do count(ARGV[queues + queue], 'pending', by) end
many('SADD', P .. 'ordered', ordered)
for _, command in ipairs(more) do call(unpack(command)) end
if ARGV[3] ~= '' then call('PUBLISH', P .. 'wake', ARGV[3]) end
local got = ''
if ARGV[4] ~= '' then got = claimed(now, ARGV[4]) end
return {'ok', left and table.concat(holders) or '', got}
