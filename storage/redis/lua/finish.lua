-- Records outcomes, and claims. Of members of flows it takes those that complete or go back to pending, as long as their
-- flow goes on: it raises the flow's counter and releases what waits (settle.Advancer). With a claim it has lua/claimed.lua
-- in front.
-- KEYS  1 prefix
-- ARGV  1 now or "", 2 worker, 3 what to publish or "", 4 claim request or "", 5 outcomes, 6 number of queues, then these,
--       number of statistics, these (queue NUL name NUL ending), number of flows, their ids, number of locks to free, these (40
--       bytes of their owner, then the name), who tells of what is released
-- An outcome: id (16), delivery (4), state (1), what (1: 1 excuse, 2 home, 4 park, 8 for now), errors (4), losses (4),
-- delay (8), ran (8), queue (4), statistic (4, 0 none), flow (4, 0 none), priority (1), number of parts (1), and these: kind (1), length (4),
-- bytes. Parts: "r" reason, "e" error, "a" attempt, "o" result, "p" progress, "l" the lane to park in; "h" the hook that is
-- running from now on: id (16), queue (4), name with its length (2), the fixed part; "x" the end of a hook: whose (16),
-- delivery (4), name with its length (2), its failure or nothing.
-- Gives {"ok", "1" or "0" for each outcome, claimed, queues in which something was released…};
--       {"rules"} when a flow may be over, or somebody asked for a stop: nothing was written; {"lease"} when the worker may not claim; {"gated"}
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
local queues, stats, flows, locks = texts(), texts(), texts(), texts()
local origin = ARGV[at]

local STATES = {[0] = 'pending', 'running', 'completed', 'failed', 'skipped', 'cancelled', 'interrupted'}
local bor = bit.bor
local OUTCOME = '<c16I4BBI4I4i8i8I4I4I4BB'
local ids, tos, here = {}, {}, 1
while here <= #blob do
	local id, parts
	id, parts = sub(blob, here, here + 15), byte(blob, here + 59)
	ids[#ids + 1] = id
	tos[#ids] = byte(blob, here + 20)
	here = here + 60
	for _ = 1, parts do
		local size = unpack_('<I4', blob, here + 1)
		here = here + 5 + size
	end
end
local olds = fetch(D, ids)

-- What would go back to pending, and was asked to stop, ends instead: that is decided elsewhere.
if call('SCARD', P .. 'stop') > 0 then
	for i, d in ipairs(olds) do
		if d and tos[i] == PENDING then
			local state, flags, _, holder = unpack_(HEAD, d)
			if state == RUNNING and holder == worker and band(flags, STOP) ~= 0 then return {'rules'} end
		end
	end
end

-- Which members complete, by flow, and whether their flows go on all the same.
local from = {}
if #flows > 0 then
	here = 1
	for i, id in ipairs(ids) do
		local d, delivery, to, flow = olds[i], unpack_('<I4B', blob, here + 16)
		flow = unpack_('<I4', blob, here + 54)
		if flow > 0 and to == COMPLETED and d then
			local state, _, is, holder = unpack_(HEAD, d)
			if state == RUNNING and holder == worker and is == delivery then
				from[flow] = from[flow] or {}
				table.insert(from[flow], id)
			end
		end
		local parts = byte(blob, here + 59)
		here = here + 60
		for _ = 1, parts do here = here + 5 + unpack_('<I4', blob, here + 1) end
	end
	for flow, list in pairs(from) do
		local f = call('HMGET', P .. 'f:' .. flows[flow], 'phase', 'total', 'completed', 'failed', 'allowed', 'skipped', 'cancelled', 'interrupted', 'roles')
		if f[1] ~= 'forward' or f[2] - f[3] - f[4] - f[5] - f[6] - f[7] - f[8] <= #list or band(f[9] or 0, 8) > 0 then return {'rules'} end -- 8: progress callbacks
	end
end

local APARTS = {[REASON] = 'reason', [ERROR] = 'error', [PROGRESS] = 'progress', [CHECKPOINT] = 'checkpoint', [RESULT] = 'result', [APART] = 'input'}
local dropped, born, hooks = {}, {}, {} -- hooks: by queue, how many more are running
local bodies, named, unnamed, keyed = {}, {}, {}, {} -- the fixed parts of those born; by name, those born and those dropped
local function under(lists, name)
	lists[name] = lists[name] or {}
	return lists[name]
end
local applied, ds, free, ended, levels, counts, sums, states = {}, {}, {}, {}, {}, {}, {}, {}
here = 1
for i, id in ipairs(ids) do
	local _, delivery, to, what, errors, losses, delay, ran, queue, stat, flow, priority, parts
	_, delivery, to, what, errors, losses, delay, ran, queue, stat, flow, priority, parts, here = unpack_(OUTCOME, blob, here)
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
	elseif part and part.x then
		applied[i] = '1'
		local target, after, name, failure = unpack_('<c16i4Hc0', part.x)
		failure = sub(part.x, failure)
		for flag, key in pairs(APARTS) do
			if band(flags, flag) ~= 0 then call('HDEL', P .. key, id) end
		end
		if band(flags, STOP) ~= 0 then call('SREM', P .. 'stop', id) end
		table.insert(under(unnamed, name), id)
		free[#free + 1], dropped[#dropped + 1] = id, id
		hooks[queue] = (hooks[queue] or 0) - 1
		local d = failure ~= '' and call('HGET', D, target)
		if d then
			call('RPUSH', P .. 'a:' .. target, pack('<i4I4c16i8i8', after, 0, worker, now - ran, now) .. failure)
			local head, rest = unpack_('<BH', d)
			call('HSET', D, target, pack('<BH', head, bor(rest, ATTEMPTS)) .. sub(d, 4))
		end
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
			if band(what, 2) == 0 then holder = NOBODY end
			if holder == NOBODY or flow > 0 then free[#free + 1] = id end
		else
			finished = now
			free[#free + 1] = id
			ended[#ended + 1] = id
			if band(flags, KEYED) ~= 0 then
				flags = flags - KEYED
				keyed[#keyed + 1] = id
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
		if part and part.h then
			local hook, in_, name, rest = unpack_('<c16I4Hc0', part.h)
			ds[n + 3] = hook
			ds[n + 4] = pack(WHOLE, RUNNING, 0, 1, worker, now, 0, 0, 0, 0, now, 0, 0, now)
			born[#born + 1] = hook
			bodies[#bodies + 1], bodies[#bodies + 2] = hook, sub(part.h, rest)
			local names = under(named, name)
			names[#names + 1], names[#names + 2] = now, hook
			hooks[in_] = (hooks[in_] or 0) + 1
		end
	end
end
many('HSET', D, ds)
many('SREM', P .. 'held:' .. worker, free)
many('SADD', P .. 'held:' .. worker, born)
many('HDEL', D, dropped)
many('HDEL', X, dropped)
many('HSET', X, bodies)
for name, ids in pairs(named) do many('ZADD', P .. 'n:' .. name, ids) end
for name, ids in pairs(unnamed) do many('ZREM', P .. 'n:' .. name, ids) end
if #keyed > 0 then
	many('HDEL', P .. 'holders', fetch(P .. 'keys', keyed))
	many('HDEL', P .. 'keys', keyed)
	many('HDEL', P .. 'lasts', keyed)
end
for queue, n in pairs(hooks) do
	if n ~= 0 then count(queues[queue], 'running', n) end
end
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
	local key = P .. 'stat:' .. minute
	call('ZADD', P .. 'minutes', minute, minute)
	for stat, sum in pairs(sums) do
		local from = 1
		while from <= #stats[stat] do -- each field of it, which \1 ends
			local to = string.find(stats[stat], '\1', from, true)
			local field = sub(stats[stat], from, to - 1)
			call('HINCRBY', key, field .. '\0n', sum[1])
			if sum[2] > 0 then call('HINCRBY', key, field .. '\0r', sum[2]) end
			if sum[3] > 0 then call('HINCRBY', key, field .. '\0w', sum[3]) end
			from = to + 1
		end
	end
end
for _, lock in ipairs(locks) do
	local name = sub(lock, 41)
	local held = call('HGET', P .. 'locks', name)
	if held and sub(held, 1, 40) == sub(lock, 1, 40) then call('HDEL', P .. 'locks', name) end
end

local answer = {'ok', table.concat(applied), ''}
for flow, list in pairs(from) do
	local key = P .. 'f:' .. flows[flow]
	call('HINCRBY', key, 'completed', #list)
	call('HINCRBY', key, 'version', 1)
	local less, waiting = {}, {}
	for _, edges in ipairs(fetch(P .. 'g:' .. flows[flow], list)) do
		for edge = 1, edges and #edges or 0, 17 do
			local to = sub(edges, edge, edge + 15)
			if not less[to] then waiting[#waiting + 1] = to end
			less[to] = (less[to] or 0) + 1
		end
	end
	local changed = {}
	for i, d in ipairs(fetch(D, waiting)) do
		local id = waiting[i]
		local state, flags, delivery, holder, started, excused, errors, losses, waits, due, deadline, finished, created
		if d then
			state, flags, delivery, holder, started, excused, errors, losses, waits, due, deadline, finished, created = unpack_(WHOLE, d)
		end
		if state == PENDING and waits > 0 then
			waits = math.max(waits - less[id], 0)
			if waits == 0 then
				local about = call('HGET', P .. 'waiting', id)
				local delay, retry, priority = unpack_('<i8i8B', about)
				local queue = sub(about, 18)
				due = now + delay
				if retry > 0 then deadline = due + retry end
				call('HDEL', P .. 'waiting', id)
				call('ZADD', P .. 'q:' .. queue .. ':' .. priority, due, id)
				if delay <= 0 then answer[#answer + 1] = queue end
			end
			changed[#changed + 1] = id
			changed[#changed + 1] = pack(WHOLE, state, flags, delivery, holder, started, excused, errors, losses, waits, due, deadline, finished, created)
		end
	end
	many('HSET', D, changed)
end
for i = 4, #answer do
	if byte(answer[i]) ~= 64 and answer[i] ~= answer[i - 1] then call('PUBLISH', P .. 'wake', origin .. answer[i]) end
end
if ARGV[3] ~= '' then call('PUBLISH', P .. 'wake', ARGV[3]) end
if ARGV[4] ~= '' then answer[3] = claimed(now, ARGV[4]) end
return answer
