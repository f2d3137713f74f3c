-- Schema 3: flows in flows, callbacks, generations. A binary of an earlier schema
-- would end a flow without its callbacks, so it may not go on.

ALTER TABLE sequencer_flows ADD COLUMN parent_id BLOB; -- the execution that stands for it
ALTER TABLE sequencer_flows ADD COLUMN root_id BLOB;   -- the outermost flow; its own id if it is that
ALTER TABLE sequencer_flows ADD COLUMN generation INTEGER NOT NULL DEFAULT 1;
ALTER TABLE sequencer_flows ADD COLUMN roles INTEGER NOT NULL DEFAULT 0; -- bits: it has callbacks for
ALTER TABLE sequencer_flows ADD COLUMN fired INTEGER NOT NULL DEFAULT 0; -- bits, and how many progress callbacks are open
ALTER TABLE sequencer_flows ADD COLUMN callbacks_open INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sequencer_flows ADD COLUMN failed_id BLOB; -- the first member that failed
ALTER TABLE sequencer_flows ADD COLUMN last_id BLOB;   -- of a chain, its last member
ALTER TABLE sequencer_flows ADD COLUMN stop_for_now INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sequencer_flows ADD COLUMN callbacks BLOB; -- templates, as package storage encodes them

UPDATE sequencer_flows SET root_id = id;

-- Few rows: flows that are not nested are found by their id.
CREATE INDEX sequencer_flows_parent ON sequencer_flows (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX sequencer_flows_root ON sequencer_flows (root_id) WHERE parent_id IS NOT NULL;

-- With the time of creation, so that what has a tag is listed in order.
ALTER TABLE sequencer_tags RENAME TO sequencer_tags_of_schema_2;
CREATE TABLE sequencer_tags (
    tag          TEXT    NOT NULL,
    at           INTEGER NOT NULL, -- created_at of the execution
    execution_id BLOB    NOT NULL,
    PRIMARY KEY (tag, at, execution_id)
) STRICT, WITHOUT ROWID;
INSERT INTO sequencer_tags (tag, at, execution_id)
    SELECT t.tag, x.created_at, t.execution_id FROM sequencer_tags_of_schema_2 AS t JOIN sequencer_executions AS x ON x.id = t.execution_id;
DROP TABLE sequencer_tags_of_schema_2;
