-- record(out, id, d, x) appends a row to what will be the answer: id, d, length of x (4), x, and those parts that stand
-- apart, each with its length (4), in this order.
local record
do
	local parts = {REASON, 'reason', ERROR, 'error', UNDO, 'undo', PROGRESS, 'progress',
		CHECKPOINT, 'checkpoint', RESULT, 'result', APART, 'input'}
	local any = REASON + ERROR + UNDO + PROGRESS + CHECKPOINT + RESULT + APART
	record = function(out, id, d, x)
		local n = #out
		out[n + 1], out[n + 2], out[n + 3], out[n + 4] = id, d, pack('<I4', #x), x
		local flags = byte(d, 2) + 256 * byte(d, 3)
		if band(flags, any) ~= 0 then
			for i = 1, #parts, 2 do
				if band(flags, parts[i]) ~= 0 then
					local v = call('HGET', P .. parts[i + 1], id) or ''
					out[#out + 1] = pack('<I4', #v)
					out[#out + 1] = v
				end
			end
		end
	end
end
