-- Extends a lease and saves progress.
-- KEYS  1 prefix
-- ARGV  1 now or "", 2 worker, 3 lease or 0, 4 progress: id (16), delivery (4), done (8), total (8)
-- Gives {"ok", ids of this worker's executions that were asked to stop, 16 bytes each}; {"lease"}; {"gated"}
if gated('') then return {'gated'} end
local now, worker, lease = clock(ARGV[1]), ARGV[2], tonumber(ARGV[3])
if not alive(worker, now) then return {'lease'} end
if lease > 0 then call('ZADD', P .. 'leases', now + lease, worker) end
for at = 1, #ARGV[4], 36 do
	local id, delivery = unpack_('<c16I4', ARGV[4], at)
	local d = call('HGET', D, id)
	if d then
		local state, flags, is, holder, started = unpack_(HEAD, d)
		if state == RUNNING and holder == worker and is == delivery then
			call('HSET', P .. 'progress', id, sub(ARGV[4], at + 20, at + 35))
			if band(flags, PROGRESS) == 0 then
				call('HSET', D, id, pack(HEAD, state, flags + PROGRESS, is, holder, started) .. sub(d, 32))
			end
		end
	end
end
local asked, stop = {}, call('SMEMBERS', P .. 'stop')
for i, d in ipairs(fetch(D, stop)) do
	if d and byte(d) == RUNNING and sub(d, 8, 23) == worker then asked[#asked + 1] = stop[i] end
end
return {'ok', table.concat(asked)}
