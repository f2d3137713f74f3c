-- Writes what a unit decided (unit.go), if what it read still stands.
-- KEYS  1 prefix
-- ARGV  1 now, 2 token of the gate or "", 3 claim request or "", 4 rows as they were read: id (16), 1 or 0 (1), d (79),
--       5 further checks, one string: each is command, key, field, "1" or "0" whether there was a value, the value;
--       6 commands, one string: for each how many arguments (4), and these. Every text has its length (4) before it. They
--       are strings because a call cannot have more than a million arguments.
-- Gives {"ok", claimed}; {"moved"} when something changed; {"lease"} when the worker may not claim; {"gated"}
local now, token = tonumber(ARGV[1]), ARGV[2]
if gated(token) then return {'gated'} end
if ARGV[3] ~= '' and not alive(sub(ARGV[3], 1, 16), now) then return {'lease'} end
local ids, were = {}, ARGV[4]
for here = 1, #were, 96 do ids[#ids + 1] = sub(were, here, here + 15) end
for i, d in ipairs(fetch(D, ids)) do
	local here = (i - 1) * 96 + 17
	local was = byte(were, here) == 1 and sub(were, here + 1, here + 79)
	if d ~= was then return {'moved'} end
end
local here, blob = 1, ARGV[5]
local function text()
	local size
	size, here = unpack_('<I4', blob, here)
	here = here + size
	return sub(blob, here - size, here - 1)
end
while here <= #blob do
	local command, key, field, there, was = text(), text(), text(), text(), text()
	local is
	if field == '' then is = call(command, key) else is = call(command, key, field) end
	if type(is) == 'number' then is = tostring(is) end
	if is ~= (there == '1' and was) then return {'moved'} end
end
here, blob = 1, ARGV[6]
while here <= #blob do
	local n, args = unpack_('<I4', blob, here), {}
	here = here + 4
	for i = 1, n do args[i] = text() end
	local is = call(unpack(args))
	if args[1] == 'HINCRBY' and is == 0 then call('HDEL', args[2], args[3]) end -- counters that are zero are not kept
end
if token ~= '' then call('DEL', P .. 'gate') end
local got = ''
if ARGV[3] ~= '' then got = claimed(now, ARGV[3]) end
return {'ok', got}
