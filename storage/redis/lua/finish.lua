-- Records outcomes of executions that belong to no flow and undo nothing, and claims.
-- KEYS  1 prefix
-- ARGV  1 now or "", 2 worker, 3 what to publish or "", 4 claim request or "", 5 outcomes, 6 number of queues, then these,
--       number of statistics, these (queue NUL name NUL ending)
-- An outcome: id (16), delivery (4), state (1), what (1: 1 excuse, 2 home, 4 park, 8 for now), errors (4), losses (4),
-- delay (8), ran (8), queue (4), statistic (4, 0 none), priority (1), number of parts (1), and these: kind (1), length (4),
-- bytes. Parts: "r" reason, "e" error, "a" attempt, "o" result, "p" progress, "l" the lane to park in.
-- Gives {"ok", "1" or "0" for each outcome, claimed}; {"lease"} when the worker may not claim; {"gated"}
if gated('') then return {'gated'} end
local now, worker, blob = clock(ARGV[1]), ARGV[2], ARGV[5]
if ARGV[4] ~= '' and not alive(worker, now) then return {'lease'} end

local at = 6
local function texts()
	local list = {}
	for i = 1, tonumber(ARGV[at]) do list[i] = ARGV[at + i] end
	at = at + 1 + #list
	return list
end
local queues, stats = texts(), texts()

local OUTCOME = '<c16I4BBI4I4i8i8I4I4BB'
local ids, here = {}, 1
while here <= #blob do
	local id, parts
	id, parts = sub(blob, here, here + 15), byte(blob, here + 55)
	ids[#ids + 1] = id
	here = here + 56
	for _ = 1, parts do
		local size = unpack_('<I4', blob, here + 1)
		here = here + 5 + size
	end
end
local olds = fetch(D, ids)
local applied, ds, free, ended, levels, counts, sums, states = {}, {}, {}, {}, {}, {}, {}, {}
here = 1
for i, id in ipairs(ids) do
	local _, delivery, to, what, errors, losses, delay, ran, queue, stat, priority, parts
	_, delivery, to, what, errors, losses, delay, ran, queue, stat, priority, parts, here = unpack_(OUTCOME, blob, here)
	local part
	if parts > 0 then
		part = {}
		for _ = 1, parts do
			local kind, size
			kind, size, here = unpack_('<c1I4', blob, here)
			part[kind] = sub(blob, here, here + size - 1)
			here = here + size
		end
	end
	local old = olds[i]
	local state, flags, at_, holder, started, excused, _, _, waits, due, deadline, _, created
	if old then
		state, flags, at_, holder, started, excused, _, _, waits, due, deadline, _, created = unpack_(WHOLE, old)
	end
	if not old or state ~= RUNNING or holder ~= worker or at_ ~= delivery then
		applied[i] = '0'
	else
		applied[i] = '1'
		local waited = now - ran - due
		if stat > 0 then
			local sum = sums[stat]
			if not sum then
				sum = {0, 0, 0}
				sums[stat] = sum
			end
			sum[1], sum[2] = sum[1] + 1, sum[2] + ran
			if waited > 0 then sum[3] = sum[3] + waited end
		end
		if band(flags, FORNOW) ~= 0 then flags = flags - FORNOW end
		if band(what, 8) ~= 0 then flags = flags + FORNOW end
		if band(flags, REASON) ~= 0 and not (part and part.r) then
			flags = flags - REASON
			call('HDEL', P .. 'reason', id)
		end
		if part then
			if part.a then
				call('RPUSH', P .. 'a:' .. id, pack('<I4I4c16i8i8', delivery, delivery - excused, worker, now - ran, now) .. part.a)
				flags = bor(flags, ATTEMPTS)
			end
			if part.r then
				call('HSET', P .. 'reason', id, part.r)
				flags = bor(flags, REASON)
			end
			if part.e then
				call('HSET', P .. 'error', id, part.e)
				call('ZADD', P .. 'errors', created, id)
				flags = bor(flags, ERROR)
			end
			if part.o then
				call('HSET', P .. 'result', id, part.o)
				flags = bor(flags, RESULT)
			end
			if part.p then
				call('HSET', P .. 'progress', id, part.p)
				flags = bor(flags, PROGRESS)
			end
		end
		if band(what, 1) ~= 0 then excused = excused + 1 end
		local finished = 0
		if to == PENDING then
			due = now + delay
			local level
			if band(what, 4) ~= 0 then
				flags = flags + PARKED
				level = 'p:' .. part.l
				call('HINCRBY', P .. 'lanes', part.l, 1)
			else
				level = 'q:' .. queues[queue] .. ':' .. priority
			end
			levels[level] = levels[level] or {}
			table.insert(levels[level], due)
			table.insert(levels[level], id)
			if band(what, 2) == 0 then
				holder = NOBODY
				free[#free + 1] = id
			end
		else
			finished = now
			free[#free + 1] = id
			ended[#ended + 1] = id
			if band(flags, KEYED) ~= 0 then
				flags = flags - KEYED
				call('HDEL', P .. 'holders', call('HGET', P .. 'keys', id))
				call('HDEL', P .. 'keys', id)
				call('HDEL', P .. 'lasts', id)
			end
			if band(flags, STOP) ~= 0 then
				flags = flags - STOP
				call('SREM', P .. 'stop', id)
			end
			if to ~= COMPLETED then
				states[to] = states[to] or {}
				table.insert(states[to], created)
				table.insert(states[to], id)
			end
		end
		local key = queue * 8 + to
		counts[key] = (counts[key] or 0) + 1
		local n = #ds
		ds[n + 1] = id
		ds[n + 2] = pack(WHOLE, to, flags, delivery, holder, started, excused, errors, losses, waits, due, deadline, finished, created)
	end
end
many('HSET', D, ds)
many('SREM', P .. 'held:' .. worker, free)
for level, list in pairs(levels) do many('ZADD', P .. level, list) end
for state, list in pairs(states) do many('ZADD', P .. 's:' .. STATES[state], list) end
for key, n in pairs(counts) do
	local queue = queues[math.floor(key / 8)]
	count(queue, 'running', -n)
	count(queue, STATES[key % 8], n)
end
local minute = math.floor(now / 60000000)
if #ended > 0 then -- a list for each minute is much cheaper than a sorted set, and pruning needs no more
	many('RPUSH', P .. 'e:' .. minute, ended)
	call('ZADD', P .. 'endings', minute, minute)
end
if next(sums) then
	local key = P .. 'm:' .. minute
	call('ZADD', P .. 'minutes', minute, minute)
	for stat, sum in pairs(sums) do
		call('HINCRBY', key, stats[stat] .. '\0n', sum[1])
		if sum[2] > 0 then call('HINCRBY', key, stats[stat] .. '\0r', sum[2]) end
		if sum[3] > 0 then call('HINCRBY', key, stats[stat] .. '\0w', sum[3]) end
	end
end
if ARGV[3] ~= '' then call('PUBLISH', P .. 'wake', ARGV[3]) end
local got = ''
if ARGV[4] ~= '' then got = claimed(now, ARGV[4]) end
return {'ok', table.concat(applied), got}
