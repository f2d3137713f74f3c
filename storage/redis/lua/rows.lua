-- Reads rows, each whole.
-- KEYS  1 prefix
-- ARGV  1 ids, 16 bytes each
-- Gives the rows that there are, one string (see record)
local ids, out = {}, {}
for at = 1, #ARGV[1], 16 do ids[#ids + 1] = sub(ARGV[1], at, at + 15) end
local ds, xs = fetch(D, ids), fetch(X, ids)
for i, id in ipairs(ids) do
	if ds[i] then record(out, id, ds[i], xs[i]) end
end
return table.concat(out)
