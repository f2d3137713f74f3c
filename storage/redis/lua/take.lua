-- Charges limits, all of a request or none, or looks at them: the rule of package window, here so that it is one call, also for
-- requests of several callers, one after the other.
-- KEYS  1 prefix
-- ARGV  1 now or "", then for each request: "" to count, "look" or "reset", how many limits, and for each of them: its name as a
--       field, how many, window
-- Gives {"ok", and for each request: microseconds to wait (0 counted, or there is room; -1 never), used of each limit}
local now = clock(ARGV[1])
local counters, changed = {}, {}
local function counter(field)
	local c = counters[field]
	if not c then
		c = {ends = 0, used = 0}
		local v = call('HGET', P .. 'limits', field)
		if v then c.ends, c.used = unpack_('<i8I8', v) end
		counters[field] = c
	end
	if c.ends <= now then c.ends, c.used = 0, 0 end
	return c
end
local answer, i = {'ok'}, 2
while i <= #ARGV do
	local action, first, last = ARGV[i], i + 2, i + 1 + 3 * tonumber(ARGV[i + 1])
	local wait = 0
	for j = first, last, 3 do
		local c, most = counter(ARGV[j]), tonumber(ARGV[j + 1])
		if most == 0 then
			wait = -1
		elseif c.used >= most and wait >= 0 then
			wait = math.max(wait, c.ends - now)
		end
	end
	if action == 'reset' then wait = 0 end
	answer[#answer + 1] = wait
	for j = first, last, 3 do
		local c = counter(ARGV[j])
		if action == 'reset' then
			c.ends, c.used, changed[ARGV[j]] = 0, 0, true
		elseif action == '' and wait == 0 then
			if c.used == 0 then c.ends = now + tonumber(ARGV[j + 2]) end
			c.used, changed[ARGV[j]] = c.used + 1, true
		end
		answer[#answer + 1] = c.used
	end
	i = last + 1
end
for field in pairs(changed) do
	local c = counters[field]
	if c.used == 0 then
		call('HDEL', P .. 'limits', field)
		call('ZREM', P .. 'windows', field)
	else
		call('ZADD', P .. 'windows', c.ends, field)
		call('HSET', P .. 'limits', field, pack('<i8I8', c.ends, c.used))
	end
end
return answer
