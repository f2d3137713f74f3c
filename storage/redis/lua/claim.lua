-- Claims due rows.
-- KEYS  1 prefix
-- ARGV  1 now or "", 2 request (claimed.lua)
-- Gives {"ok", answer (claimed.lua)}; {"lease"} when the worker is not alive; {"gated"}
if gated('') then return {'gated'} end
local now = clock(ARGV[1])
if not alive(sub(ARGV[2], 1, 16), now) then return {'lease'} end
return {'ok', claimed(now, ARGV[2])}
