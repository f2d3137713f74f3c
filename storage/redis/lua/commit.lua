-- Writes what a unit decided (unit.go), if what it read still stands.
-- KEYS  1 prefix
-- ARGV  1 now, 2 token of the gate or "", 3 claim request or "", 4 rows as they were read: id (16), 1 or 0 (1), d (79),
--       5 number of further checks, then for each: command, key, field, "1" or "0" whether there was a value, the value,
--       number of commands, then for each: how many arguments, these
-- Gives {"ok", claimed}; {"moved"} when something changed; {"lease"} when the worker may not claim; {"gated"}
local now, token, at = tonumber(ARGV[1]), ARGV[2], 5
if gated(token) then return {'gated'} end
if ARGV[3] ~= '' and not alive(sub(ARGV[3], 1, 16), now) then return {'lease'} end
local ids, were = {}, ARGV[4]
for here = 1, #were, 96 do ids[#ids + 1] = sub(were, here, here + 15) end
for i, d in ipairs(fetch(D, ids)) do
	local here = (i - 1) * 96 + 17
	local was = byte(were, here) == 1 and sub(were, here + 1, here + 79)
	if d ~= was then return {'moved'} end
end
local checks = tonumber(ARGV[at])
at = at + 1
for _ = 1, checks do
	local is
	if ARGV[at + 2] == '' then is = call(ARGV[at], ARGV[at + 1]) else is = call(ARGV[at], ARGV[at + 1], ARGV[at + 2]) end
	if type(is) == 'number' then is = tostring(is) end
	if is ~= (ARGV[at + 3] == '1' and ARGV[at + 4]) then return {'moved'} end
	at = at + 5
end
local commands = tonumber(ARGV[at])
at = at + 1
for _ = 1, commands do
	local n = tonumber(ARGV[at])
	local args = {}
	for i = 1, n do args[i] = ARGV[at + i] end
	local is = call(unpack(args))
	if args[1] == 'HINCRBY' and is == 0 then call('HDEL', args[2], args[3]) end -- counters that are zero are not kept
	at = at + 1 + n
end
if token ~= '' then call('DEL', P .. 'gate') end
local got = ''
if ARGV[3] ~= '' then got = claimed(now, ARGV[3]) end
return {'ok', got}
