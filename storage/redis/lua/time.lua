-- Tells the instant.
-- KEYS  1 prefix
-- Gives microseconds since 1970. It is a script so that in a cluster the node is asked which has the ledger.
return clock('')
