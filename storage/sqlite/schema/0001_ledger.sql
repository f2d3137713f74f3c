-- The ledger, schema 1.
--
-- Instants (…_at) are microseconds since 1970 in UTC, durations (…_us)
-- microseconds, ids 16 bytes, truths 0 or 1. An absent text is '', an absent id
-- or instant NULL. Live and history rows share one table: a row is live while
-- finished_at is NULL, and the partial indexes part the two.

CREATE TABLE sequencer_meta (
    only_row          INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    version           INTEGER NOT NULL,
    oldest_compatible INTEGER NOT NULL
) STRICT;

CREATE TABLE sequencer_executions (
    id              BLOB    NOT NULL PRIMARY KEY,
    name            TEXT    NOT NULL,
    kind            TEXT    NOT NULL,
    method          TEXT    NOT NULL,
    actor           TEXT    NOT NULL,
    queue           TEXT    NOT NULL,
    priority        INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 4),
    state           TEXT    NOT NULL,
    due_at          INTEGER,
    created_at      INTEGER NOT NULL,
    started_at      INTEGER,          -- of the first attempt
    finished_at     INTEGER,
    deadline_at     INTEGER,
    delivery        INTEGER NOT NULL DEFAULT 0,
    excused         INTEGER NOT NULL DEFAULT 0,
    errors          INTEGER NOT NULL DEFAULT 0,
    losses          INTEGER NOT NULL DEFAULT 0,
    waits           INTEGER NOT NULL DEFAULT 0,
    parked          INTEGER NOT NULL DEFAULT 0,
    cancel_asked    INTEGER NOT NULL DEFAULT 0,
    worker_id       BLOB,
    flow_id         BLOB,
    member          TEXT    NOT NULL,
    position        INTEGER NOT NULL,
    undoes          BLOB,
    delay_us        INTEGER NOT NULL,
    retry_for_us    INTEGER NOT NULL,
    unique_key      TEXT,
    unique_for_us   INTEGER NOT NULL,
    holds_key       INTEGER NOT NULL, -- its unique_key is taken: live, and not given up
    on_loss         TEXT    NOT NULL,
    min_build       INTEGER NOT NULL,
    undoable        INTEGER NOT NULL,
    allowed_to_fail INTEGER NOT NULL,
    for_now         INTEGER NOT NULL DEFAULT 0,
    done            INTEGER NOT NULL DEFAULT 0,
    total           INTEGER NOT NULL DEFAULT 0,
    checksum        TEXT    NOT NULL,
    tags            TEXT    NOT NULL, -- JSON array, '' = none; sequencer_tags finds by tag
    reason          TEXT    NOT NULL DEFAULT '',
    environment     TEXT    NOT NULL DEFAULT '',
    last_error      TEXT    NOT NULL DEFAULT '',
    error_group     TEXT    NOT NULL DEFAULT '',
    undo_error      TEXT    NOT NULL DEFAULT '',
    policy          BLOB,
    input           BLOB,
    checkpoint      BLOB,
    result          BLOB
) STRICT;

-- What a claim walks, without reading the rows: SQLite takes an index as covering
-- past two terms in its WHERE, but not past three, which is why blocked rows are
-- in it. They have no due_at, and no claim walks over NULL.
CREATE INDEX sequencer_executions_claimable ON sequencer_executions (queue, priority, due_at, id)
    WHERE state = 'pending' AND parked = 0;

-- Rows no build has known so far; a worker that knows the name claims them here.
CREATE INDEX sequencer_executions_parked ON sequencer_executions (name, queue)
    WHERE parked = 1;

-- The lock behind unique keys: taking it is the insert, leaving the live part
-- (holds_key = 0) gives it back.
CREATE UNIQUE INDEX sequencer_executions_unique ON sequencer_executions (unique_key)
    WHERE holds_key = 1;

-- What a worker holds, running or homed with it.
CREATE INDEX sequencer_executions_held ON sequencer_executions (worker_id)
    WHERE worker_id IS NOT NULL AND finished_at IS NULL;

CREATE INDEX sequencer_executions_flow ON sequencer_executions (flow_id)
    WHERE flow_id IS NOT NULL;

-- The effective row of each ordered operation and migration.
CREATE INDEX sequencer_executions_newest ON sequencer_executions (kind, name, created_at, id)
    WHERE kind = 'ordered' OR kind = 'migration';

-- Listings, written once per row: neither column ever changes.
CREATE INDEX sequencer_executions_created ON sequencer_executions (created_at, id);
CREATE INDEX sequencer_executions_name ON sequencer_executions (name, created_at, id);

-- History by age, for pruning.
CREATE INDEX sequencer_executions_finished ON sequencer_executions (finished_at)
    WHERE finished_at IS NOT NULL;

-- Endings that people look for; the many completed rows are not in it.
CREATE INDEX sequencer_executions_troubled ON sequencer_executions (state, created_at, id)
    WHERE state = 'failed' OR state = 'interrupted';

CREATE INDEX sequencer_executions_group ON sequencer_executions (error_group)
    WHERE error_group <> '';

CREATE INDEX sequencer_executions_undoes ON sequencer_executions (undoes)
    WHERE undoes IS NOT NULL;

CREATE TABLE sequencer_tags (
    tag          TEXT NOT NULL,
    execution_id BLOB NOT NULL,
    PRIMARY KEY (tag, execution_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE sequencer_attempts (
    execution_id BLOB    NOT NULL,
    delivery     INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    worker_id    BLOB,
    started_at   INTEGER,
    finished_at  INTEGER NOT NULL,
    outcome      TEXT    NOT NULL,
    type         TEXT    NOT NULL,
    message      TEXT    NOT NULL,
    trace        TEXT    NOT NULL,
    context      TEXT    NOT NULL,
    error_group  TEXT    NOT NULL,
    PRIMARY KEY (execution_id, delivery)
) STRICT;

CREATE TABLE sequencer_flows (
    id             BLOB    NOT NULL PRIMARY KEY,
    kind           TEXT    NOT NULL,
    name           TEXT    NOT NULL,
    method         TEXT    NOT NULL,
    policy         TEXT    NOT NULL,
    phase          TEXT    NOT NULL,
    state          TEXT    NOT NULL,
    reason         TEXT    NOT NULL,
    actor          TEXT    NOT NULL,
    host           TEXT    NOT NULL,
    build          INTEGER NOT NULL,
    options        BLOB,
    worker_id      BLOB,
    stop_state     TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    finished_at    INTEGER,
    total          INTEGER NOT NULL,
    completed      INTEGER NOT NULL,
    failed         INTEGER NOT NULL,
    failed_allowed INTEGER NOT NULL,
    skipped        INTEGER NOT NULL,
    cancelled      INTEGER NOT NULL,
    interrupted    INTEGER NOT NULL,
    undo_total     INTEGER NOT NULL,
    undo_completed INTEGER NOT NULL,
    undo_failed    INTEGER NOT NULL
) STRICT;

CREATE INDEX sequencer_flows_created ON sequencer_flows (created_at, id);
CREATE INDEX sequencer_flows_open ON sequencer_flows (created_at, id)
    WHERE finished_at IS NULL;

-- to_id waits for from_id. Settling reads by from_id; nothing deletes an edge
-- but pruning, so that a flow can be drawn when it is over.
CREATE TABLE sequencer_edges (
    from_id BLOB    NOT NULL,
    to_id   BLOB    NOT NULL,
    needs   INTEGER NOT NULL,
    PRIMARY KEY (from_id, to_id, needs)
) STRICT, WITHOUT ROWID;

CREATE INDEX sequencer_edges_to ON sequencer_edges (to_id);

CREATE TABLE sequencer_workers (
    id        BLOB    NOT NULL PRIMARY KEY,
    purpose   TEXT    NOT NULL,
    actor     TEXT    NOT NULL,
    hostname  TEXT    NOT NULL,
    boot      TEXT    NOT NULL,
    pid       INTEGER NOT NULL,
    pid_start TEXT    NOT NULL,
    build     INTEGER NOT NULL,
    version   TEXT    NOT NULL,
    queues    TEXT    NOT NULL, -- JSON array
    slots     INTEGER NOT NULL,
    joined_at INTEGER NOT NULL,
    left_at   INTEGER,
    dead      INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX sequencer_workers_present ON sequencer_workers (joined_at, id)
    WHERE left_at IS NULL;

CREATE TABLE sequencer_locks (
    name        TEXT    NOT NULL PRIMARY KEY,
    worker_id   BLOB    NOT NULL,
    flow_id     BLOB,
    acquired_at INTEGER NOT NULL
) STRICT;

CREATE INDEX sequencer_locks_worker ON sequencer_locks (worker_id);

-- One row per minute, queue, name and ending, raised by delta.
CREATE TABLE sequencer_stats (
    minute_at INTEGER NOT NULL,
    queue     TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    ending    TEXT    NOT NULL,
    n         INTEGER NOT NULL,
    ran_us    INTEGER NOT NULL,
    waited_us INTEGER NOT NULL,
    PRIMARY KEY (minute_at, queue, name, ending)
) STRICT, WITHOUT ROWID;

CREATE TABLE sequencer_audit (
    id     BLOB    NOT NULL PRIMARY KEY,
    at     INTEGER NOT NULL,
    actor  TEXT    NOT NULL,
    action TEXT    NOT NULL,
    target TEXT    NOT NULL,
    count  INTEGER NOT NULL,
    reason TEXT    NOT NULL
) STRICT;

CREATE INDEX sequencer_audit_at ON sequencer_audit (at, id);

-- Counters of limiters, by limiter, key and window.
CREATE TABLE sequencer_limits (
    name       TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    window_at  INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (name, key, window_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX sequencer_limits_expires ON sequencer_limits (expires_at);

-- Ticks of schedules; a tick fires once because its row is unique.
CREATE TABLE sequencer_schedules (
    name         TEXT    NOT NULL,
    tick_at      INTEGER NOT NULL,
    execution_id BLOB,
    fired_at     INTEGER NOT NULL,
    PRIMARY KEY (name, tick_at)
) STRICT, WITHOUT ROWID;
