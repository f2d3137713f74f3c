-- Opens the gate, if the caller holds it.
-- KEYS  1 prefix
-- ARGV  1 token
if call('GET', P .. 'gate') == ARGV[1] then call('DEL', P .. 'gate') end
return {'ok'}
