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

-- What a lock is held for, and from when on it may be taken over.
ALTER TABLE sequencer_locks ADD COLUMN execution_id BLOB;
ALTER TABLE sequencer_locks ADD COLUMN free_at INTEGER;
ALTER TABLE sequencer_locks ADD COLUMN delivery INTEGER NOT NULL DEFAULT 0;

-- That of schema 1 was never used either.
DROP TABLE sequencer_limits;
CREATE TABLE sequencer_limits (
    name      TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    n         INTEGER NOT NULL,
    window_us INTEGER NOT NULL,
    ends_at   INTEGER NOT NULL,
    used      INTEGER NOT NULL,
    PRIMARY KEY (name, key, n, window_us)
) STRICT, WITHOUT ROWID;
CREATE INDEX sequencer_limits_ends ON sequencer_limits (ends_at);

-- Which names have parked rows that a build may claim, whatever others there are.
CREATE INDEX sequencer_executions_parked_build ON sequencer_executions (name, min_build)
    WHERE parked = 1;

-- The operations a worker has registered, as a JSON array.
ALTER TABLE sequencer_workers ADD COLUMN names TEXT NOT NULL DEFAULT '';
