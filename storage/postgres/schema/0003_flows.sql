-- Schema 3: flows in flows, callbacks, generations, and cheaper ends. A binary of an earlier schema
-- would end a flow without its callbacks, so it may not go on.

ALTER TABLE sequencer_flows
    ADD COLUMN parent_id      uuid, -- the execution that stands for it
    ADD COLUMN root_id        uuid, -- the outermost flow; its own id if it is that
    ADD COLUMN failed_id      uuid, -- the first member that failed
    ADD COLUMN last_id        uuid, -- of a chain, its last member
    ADD COLUMN generation     integer NOT NULL DEFAULT 1,
    ADD COLUMN roles          integer NOT NULL DEFAULT 0, -- bits: it has callbacks for
    ADD COLUMN fired          integer NOT NULL DEFAULT 0, -- bits, and how many progress callbacks are open
    ADD COLUMN callbacks_open integer NOT NULL DEFAULT 0,
    ADD COLUMN stop_for_now   boolean NOT NULL DEFAULT false,
    ADD COLUMN callbacks      bytea; -- templates, as package storage encodes them

UPDATE sequencer_flows SET root_id = id;

-- Few rows: flows that are not nested are found by their id.
CREATE INDEX sequencer_flows_parent ON sequencer_flows (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX sequencer_flows_root ON sequencer_flows (root_id) WHERE parent_id IS NOT NULL;

-- An insert into a BRIN index looks its range up anew for each row. Prune goes by the
-- time of creation, see pruneSQL.
DROP INDEX sequencer_history_finished;

-- Each row gets a second entry when it is claimed, beside its first: room for it.
ALTER INDEX sequencer_live_pkey SET (fillfactor = 50);

UPDATE sequencer_meta SET version = 3, oldest_compatible = 3, updated_at = now();
