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

UPDATE sequencer_meta SET version = 2, oldest_compatible = 1, updated_at = now();
