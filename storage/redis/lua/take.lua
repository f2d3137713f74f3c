-- Charges limits, all of them or none, or looks at them: the rule of package window, here so that it is one call.
-- KEYS  1 prefix
-- ARGV  1 now or "", 2 "" to count, "look" or "reset", then for each limit: its name as a field, how many, window
-- Gives {"ok", microseconds to wait (0 counted, or there is room; -1 never), used of each limit}
local now, action = clock(ARGV[1]), ARGV[2]
local limits, wait = {}, 0
for i = 3, #ARGV, 3 do
	local l = {field = ARGV[i], most = tonumber(ARGV[i + 1]), window = tonumber(ARGV[i + 2]), ends = 0, used = 0}
	local v = call('HGET', P .. 'limits', l.field)
	if v then l.ends, l.used = unpack_('<i8I8', v) end
	if l.ends <= now then l.ends, l.used = 0, 0 end
	if l.most == 0 then
		wait = -1
	elseif l.used >= l.most and wait >= 0 then
		wait = math.max(wait, l.ends - now)
	end
	limits[#limits + 1] = l
end
local answer = {'ok', 0}
if action == 'reset' then wait = 0 end
for _, l in ipairs(limits) do
	if action == 'reset' then
		l.used = 0
		call('HDEL', P .. 'limits', l.field)
		call('ZREM', P .. 'windows', l.field)
	elseif action == '' and wait == 0 then
		if l.used == 0 then
			l.ends = now + l.window
			call('ZADD', P .. 'windows', l.ends, l.field)
		end
		l.used = l.used + 1
		call('HSET', P .. 'limits', l.field, pack('<i8I8', l.ends, l.used))
	end
	answer[#answer + 1] = l.used
end
answer[2] = wait
return answer
