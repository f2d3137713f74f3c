-- Saves the cursor of an execution that runs.
-- KEYS  1 prefix
-- ARGV  1 id, 2 worker, 3 delivery, 4 cursor, 5 whether it moved: 0, 1
-- Gives {"ok"}; {"lease"} when the execution is not that worker's at that delivery; {"gated"}
if gated('') then return {'gated'} end
local d = call('HGET', D, ARGV[1])
if not d then return {'lease'} end
local state, flags, delivery, worker, started = unpack_(HEAD, d)
if state ~= RUNNING or worker ~= ARGV[2] or delivery ~= tonumber(ARGV[3]) then return {'lease'} end
call('HSET', P .. 'checkpoint', ARGV[1], ARGV[4])
local rest = sub(d, 32)
if ARGV[5] == '1' then rest = sub(d, 32, 39) .. '\0\0\0\0' .. sub(d, 44) end -- no losses
if band(flags, CHECKPOINT) == 0 then flags = flags + CHECKPOINT end
local after = pack(HEAD, state, flags, delivery, worker, started) .. rest
if after ~= d then call('HSET', D, ARGV[1], after) end
return {'ok'}
