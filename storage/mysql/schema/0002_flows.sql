-- Schema 2: flows in flows, callbacks, generations. A binary of schema 1 would end a
-- flow without its callbacks, so it may not go on.
--
-- A column that is there already is an error on some servers, whatever the statement
-- says of it, so the step asks first: it may have been broken off behind it.
SET @sequencer_step = IF(
    (SELECT COUNT(*) FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'sequencer_flows' AND column_name = 'root_id') > 0,
    'DO 0',
    'ALTER TABLE sequencer_flows
        ADD COLUMN parent_id      BINARY(16),
        ADD COLUMN root_id        BINARY(16),
        ADD COLUMN failed_id      BINARY(16),
        ADD COLUMN last_id        BINARY(16),
        ADD COLUMN generation     INT     NOT NULL DEFAULT 1,
        ADD COLUMN roles          INT     NOT NULL DEFAULT 0,
        ADD COLUMN fired          INT     NOT NULL DEFAULT 0,
        ADD COLUMN callbacks_open INT     NOT NULL DEFAULT 0,
        ADD COLUMN stop_for_now   TINYINT NOT NULL DEFAULT 0,
        ADD COLUMN callbacks      MEDIUMBLOB,
        ADD KEY sequencer_flows_parent (parent_id),
        ADD KEY sequencer_flows_root (root_id)');
PREPARE sequencer_step FROM @sequencer_step;
EXECUTE sequencer_step;
DEALLOCATE PREPARE sequencer_step;

UPDATE sequencer_flows SET root_id = id WHERE root_id IS NULL;

UPDATE sequencer_meta SET version = 2, oldest_compatible = 2, updated_at = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6));
