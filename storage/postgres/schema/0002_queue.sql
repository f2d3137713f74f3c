-- Schema 2: what people pause, and schedules. A binary of schema 1 knows neither
-- and may go on.

-- That of schema 1 was never used.
DROP TABLE sequencer_schedules;

-- Few rows, read whole by each claim from a queue that is not private.
CREATE TABLE sequencer_pauses (
    at     timestamptz NOT NULL,
    kind   text        NOT NULL,
    name   text        NOT NULL,
    actor  text,
    reason text,
    PRIMARY KEY (kind, name)
);

CREATE TABLE sequencer_schedules (
    name         text        PRIMARY KEY,
    announced_at timestamptz NOT NULL,
    last_tick_at timestamptz NOT NULL,
    last_id      uuid,
    build        bigint      NOT NULL,
    spec         text        NOT NULL,
    zone         text        NOT NULL,
    operation    text        NOT NULL,
    queue        text        NOT NULL,
    missed       text        NOT NULL
);

-- The least build that a parked row of a name asks for, in one look.
CREATE INDEX sequencer_live_parked_build ON sequencer_live (name, min_build NULLS FIRST)
    WHERE state = 'pending' AND due_at IS NOT NULL AND parked;

-- The operations a worker has registered.
ALTER TABLE sequencer_workers ADD COLUMN names text[];

-- What a lock is held for, and from when on it may be taken over.
ALTER TABLE sequencer_locks ADD COLUMN execution_id uuid, ADD COLUMN free_at timestamptz, ADD COLUMN delivery integer NOT NULL DEFAULT 0;

-- That of schema 1 was never used either. A row is written by each execution that a
-- limit admits, so it is kept where it is.
DROP TABLE sequencer_limits;
CREATE TABLE sequencer_limits (
    ends_at   timestamptz NOT NULL,
    n         bigint      NOT NULL,
    window_us bigint      NOT NULL,
    used      integer     NOT NULL,
    name      text        NOT NULL,
    key       text        NOT NULL,
    PRIMARY KEY (name, key, n, window_us)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX sequencer_limits_ends ON sequencer_limits (ends_at);

UPDATE sequencer_meta SET version = 2, oldest_compatible = 1, updated_at = now();
