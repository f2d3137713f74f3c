-- claimed(now, request) claims, and is part of the scripts that can. The worker must be alive.
--
-- The request is one string: worker (16), build (8), limit (4), bytes at most (4), number of queues (2), of names (2), and
-- these, each with its length (2) before it. The answer is one too: microseconds until the next row is due (8; 0 now,
-- negative none), number of rows (4), of operations that are paused (2), their names, the rows (see record).
--
-- A level, one priority of one queue, is a sorted set by due time; equal times go by id. Rows that are parked have a set
-- for each queue, priority, lowest build and name, listed in lanes; nearly always there is none.

local claimed

do
	-- Bytes of a row beyond d.
	local function weight(id, d, x)
		local n, flags = #x, byte(d, 2) + 256 * byte(d, 3)
		if band(flags, APART) ~= 0 then n = n + call('HSTRLEN', P .. 'input', id) end
		if band(flags, CHECKPOINT) ~= 0 then n = n + call('HSTRLEN', P .. 'checkpoint', id) end
		if band(flags, RESULT) ~= 0 then n = n + call('HSTRLEN', P .. 'result', id) end
		return n
	end

	-- The lanes of parked rows that this claimant may serve, by level.
	local function known(lanes, names, build)
		local levels = {}
		for _, lane in ipairs(lanes) do
			local queue, priority, lowest, name = lane:match('^(%Z*)%z(%Z*)%z(%Z*)%z(%Z*)$')
			if names[name] and tonumber(lowest) <= build then
				local level = queue .. ':' .. priority
				levels[level] = levels[level] or {}
				table.insert(levels[level], lane)
			end
		end
		return levels
	end

	local function earlier(a, b)
		if a[2] ~= b[2] then return a[2] < b[2] end
		return a[1] < b[1]
	end

	-- The due rows of one level in their order, from its set and from lanes; which set each is in; those of the set itself
	-- are its first.
	local function due(key, lanes, now, most)
		if not lanes then return call('ZRANGE', key, '-inf', now, 'BYSCORE', 'LIMIT', 0, most) end
		local all = {}
		local function add(from, lane)
			local got = call('ZRANGE', from, '-inf', now, 'BYSCORE', 'LIMIT', 0, most, 'WITHSCORES')
			for i = 1, #got, 2 do all[#all + 1] = {got[i], tonumber(got[i + 1]), lane} end
		end
		add(key, false)
		for _, lane in ipairs(lanes) do add(P .. 'p:' .. lane, lane) end
		table.sort(all, earlier)
		local ids, from = {}, {}
		for i = 1, math.min(most, #all) do ids[i], from[i] = all[i][1], all[i][3] end
		return ids, from
	end

	claimed = function(now, request)
		local worker, build, limit, budget, queues, names, at = unpack_('<c16i8I4I4HH', request)
		local list, public = {}, false
		for i = 1, queues do
			list[i], at = unpack_('<Hc0', request, at)
			public = public or byte(list[i]) ~= 64 -- '@', a private one
		end
		local paused, stopped = {}, {}
		if public then
			for _, field in ipairs(call('HKEYS', P .. 'pauses')) do
				local kind, name = field:match('^(%S+) (.*)$')
				if kind == 'operation' then paused[#paused + 1] = name end
				stopped[field] = true
			end
			table.sort(paused)
		end
		local levels = {}
		if names > 0 and call('HLEN', P .. 'lanes') > 0 then
			local has = {}
			for _ = 1, names do
				local name
				name, at = unpack_('<Hc0', request, at)
				has[name] = not stopped['operation ' .. name]
			end
			levels = known(call('HKEYS', P .. 'lanes'), has, build)
		end

		local out, held, moved, got, full = {''}, {}, {}, 0, false
		for _, queue in ipairs(list) do
			local before = got
			for priority = 1, 4 do
				local key, lanes = P .. 'q:' .. queue .. ':' .. priority, levels[queue .. ':' .. priority]
				while not full and got < limit and not stopped['queue ' .. queue] do
					local most = math.min(limit - got, 256)
					local ids, from = due(key, lanes, now, most)
					if #ids == 0 then break end
					local ds, xs, taken, first = fetch(D, ids), fetch(X, ids), #ids, 0
					for i, id in ipairs(ids) do
						local d, x = ds[i], xs[i]
						local _, flags, delivery, home, started = unpack_(HEAD, d)
						budget = budget - (band(flags, APART + CHECKPOINT + RESULT) == 0 and #x or weight(id, d, x))
						if budget < 0 and got > 0 then
							taken, full = i - 1, true
							break
						end
						if started == 0 then started = now end
						local lane = from and from[i]
						if lane then
							call('ZREM', P .. 'p:' .. lane, id)
							if call('HINCRBY', P .. 'lanes', lane, -1) == 0 then call('HDEL', P .. 'lanes', lane) end
							flags = flags - PARKED
						else
							first = first + 1
						end
						if home ~= NOBODY and home ~= worker then call('SREM', P .. 'held:' .. home, id) end
						d = pack(HEAD, RUNNING, flags, delivery + 1, worker, started) .. sub(d, 32)
						got = got + 1
						held[got] = id
						moved[2 * got - 1], moved[2 * got] = id, d
						record(out, id, d, x)
					end
					if first > 0 then call('ZREMRANGEBYRANK', key, 0, first - 1) end
					if taken < most then break end
				end
			end
			if got > before then
				count(queue, 'pending', before - got)
				count(queue, 'running', got - before)
			end
		end
		many('HSET', D, moved)
		many('SADD', P .. 'held:' .. worker, held)

		local nextdue = -1
		if full or got >= limit then
			nextdue = 0
		else
			local function look(key)
				local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
				if first[2] and (nextdue < 0 or first[2] - now < nextdue) then nextdue = first[2] - now end
			end
			for _, queue in ipairs(list) do
				if not stopped['queue ' .. queue] then
					for priority = 1, 4 do
						look(P .. 'q:' .. queue .. ':' .. priority)
						for _, lane in ipairs(levels[queue .. ':' .. priority] or {}) do look(P .. 'p:' .. lane) end
					end
				end
			end
		end
		local head = {pack('<i8I4H', nextdue, got, #paused)}
		for _, name in ipairs(paused) do head[#head + 1] = pack('<Hc0', #name, name) end
		out[1] = table.concat(head)
		return table.concat(out)
	end
end
