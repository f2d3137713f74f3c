-- Saves the cursor of an execution that runs.
-- KEYS  1 prefix
-- ARGV  1 id, 2 worker, 3 delivery, 4 cursor
-- Gives {"ok"}; {"lease"} when the execution is not that worker's at that delivery; {"gated"}
if gated('') then return {'gated'} end
local d = call('HGET', D, ARGV[1])
if not d then return {'lease'} end
local state, flags, delivery, worker, started = unpack_(HEAD, d)
if state ~= RUNNING or worker ~= ARGV[2] or delivery ~= tonumber(ARGV[3]) then return {'lease'} end
call('HSET', P .. 'checkpoint', ARGV[1], ARGV[4])
if band(flags, CHECKPOINT) == 0 then
	call('HSET', D, ARGV[1], pack(HEAD, state, flags + CHECKPOINT, delivery, worker, started) .. sub(d, 32))
end
return {'ok'}
