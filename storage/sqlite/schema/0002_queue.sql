-- Schema 2: what people pause, and schedules. A binary of schema 1 knows neither
-- and may go on.

-- That of schema 1 was never used.
DROP TABLE sequencer_schedules;

-- Few rows, read whole by each claim from a queue that is not private.
CREATE TABLE sequencer_pauses (
    kind   TEXT    NOT NULL,
    name   TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    actor  TEXT    NOT NULL,
    reason TEXT    NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE sequencer_schedules (
    name         TEXT    NOT NULL PRIMARY KEY,
    spec         TEXT    NOT NULL,
    zone         TEXT    NOT NULL,
    operation    TEXT    NOT NULL,
    queue        TEXT    NOT NULL,
    missed       TEXT    NOT NULL,
    build        INTEGER NOT NULL,
    announced_at INTEGER NOT NULL,
    last_tick_at INTEGER NOT NULL,
    last_id      BLOB
) STRICT, WITHOUT ROWID;

-- Which names have parked rows that a build may claim, whatever others there are.
CREATE INDEX sequencer_executions_parked_build ON sequencer_executions (name, min_build)
    WHERE parked = 1;

-- The operations a worker has registered, as a JSON array.
ALTER TABLE sequencer_workers ADD COLUMN names TEXT NOT NULL DEFAULT '';
