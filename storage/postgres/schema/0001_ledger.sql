-- Schema 1 of the ledger. Names are found by the search path.

-- One row: which schema this is, and the oldest binary that may work on it.
-- ledger_id tells two ledgers apart, so that a transaction of another database
-- is noticed before it is written to.
CREATE TABLE sequencer_meta (
    only_row          boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    ledger_id         uuid        NOT NULL DEFAULT gen_random_uuid(),
    version           integer     NOT NULL,
    oldest_compatible integer     NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now()
);

-- The live part: pending and running. Fixed widths first, for less padding; what
-- is rarely set is null, not zero, because a null costs one bit.
CREATE TABLE sequencer_live (
    id              uuid        NOT NULL PRIMARY KEY,
    flow_id         uuid,
    worker_id       uuid,
    undoes          uuid,
    created_at      timestamptz NOT NULL,
    due_at          timestamptz,
    started_at      timestamptz,
    finished_at     timestamptz,
    deadline_at     timestamptz,
    min_build       bigint,
    delay_us        bigint,
    retry_for_us    bigint,
    unique_for_us   bigint,
    done            bigint,
    total           bigint,
    priority        integer     NOT NULL,
    position        integer     NOT NULL,
    waits           integer     NOT NULL,
    delivery        integer     NOT NULL,
    excused         integer     NOT NULL,
    errors          integer     NOT NULL,
    losses          integer     NOT NULL,
    undoable        boolean     NOT NULL,
    allowed_to_fail boolean     NOT NULL,
    for_now         boolean     NOT NULL,
    parked          boolean     NOT NULL,
    cancel_asked    boolean     NOT NULL,
    state           text        NOT NULL,
    name            text        NOT NULL,
    kind            text        NOT NULL,
    method          text        NOT NULL,
    queue           text        NOT NULL,
    on_loss         text        NOT NULL,
    actor           text,
    member          text,
    unique_key      text,
    reason          text,
    environment     text,
    checksum        text,
    tags            text[],
    input           bytea,
    policy          bytea,
    checkpoint      bytea,
    result          bytea,
    last_error      text,
    error_group     text,
    undo_error      text
);

-- The history part: the same columns, for what is over.
CREATE TABLE sequencer_history (LIKE sequencer_live, PRIMARY KEY (id));

ALTER TABLE sequencer_live    ADD CHECK (state IN ('pending', 'running'));
ALTER TABLE sequencer_history ADD CHECK (state NOT IN ('pending', 'running'));

-- Every claim rewrites a row and every end deletes one, so dead rows gather as
-- fast as work is done: vacuum early and at full speed. Not truncating spares the
-- exclusive lock that truncation takes, and keeps a drained table from looking
-- free to read in full to a plan that outlives the quiet moment.
ALTER TABLE sequencer_live SET (
    fillfactor = 90,
    vacuum_truncate = off,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_analyze_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

-- History only grows at one end and is pruned at the other.
ALTER TABLE sequencer_history SET (
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05
);

-- What Claim walks, level by level. Blocked rows have no due time and parked ones
-- are elsewhere, so every entry up to now is claimable.
CREATE INDEX sequencer_live_claim ON sequencer_live (queue, priority, due_at, id)
    WHERE state = 'pending' AND due_at IS NOT NULL AND NOT parked;
CREATE INDEX sequencer_live_parked ON sequencer_live (name, queue, priority, due_at, id)
    WHERE state = 'pending' AND due_at IS NOT NULL AND parked;
CREATE UNIQUE INDEX sequencer_live_unique ON sequencer_live (unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX sequencer_live_flow ON sequencer_live (flow_id) WHERE flow_id IS NOT NULL;
CREATE INDEX sequencer_live_worker ON sequencer_live (worker_id) WHERE worker_id IS NOT NULL;
CREATE INDEX sequencer_live_newest ON sequencer_live (kind, name, created_at, id)
    WHERE kind IN ('ordered', 'migration');

-- Listings page by (created_at, id); rows of one instant are few enough to be sorted
-- on the way, and without the id the two indexes that every end pays for stay half
-- as large. The end is only asked for by Prune, in ranges of rows that lie together,
-- which is what BRIN is for.
CREATE INDEX sequencer_history_created ON sequencer_history (created_at);
CREATE INDEX sequencer_history_name ON sequencer_history (name, created_at);
CREATE INDEX sequencer_history_finished ON sequencer_history USING brin (finished_at) WITH (pages_per_range = 32);
CREATE INDEX sequencer_history_newest ON sequencer_history (kind, name, created_at, id)
    WHERE kind IN ('ordered', 'migration');
CREATE INDEX sequencer_history_state ON sequencer_history (state, created_at) WHERE state <> 'completed';
CREATE INDEX sequencer_history_flow ON sequencer_history (flow_id) WHERE flow_id IS NOT NULL;
CREATE INDEX sequencer_history_undoes ON sequencer_history (undoes) WHERE undoes IS NOT NULL;
CREATE INDEX sequencer_history_group ON sequencer_history (error_group, created_at) WHERE error_group IS NOT NULL;
CREATE INDEX sequencer_history_unique ON sequencer_history (unique_key, created_at) WHERE unique_key IS NOT NULL;

CREATE TABLE sequencer_tags (
    tag          text NOT NULL,
    execution_id uuid NOT NULL,
    PRIMARY KEY (tag, execution_id)
);
CREATE INDEX sequencer_tags_execution ON sequencer_tags (execution_id);

-- Attempts that did not end well.
CREATE TABLE sequencer_attempts (
    execution_id uuid        NOT NULL,
    delivery     integer     NOT NULL,
    number       integer     NOT NULL,
    worker_id    uuid,
    started_at   timestamptz NOT NULL,
    finished_at  timestamptz NOT NULL,
    outcome      text        NOT NULL,
    type         text        NOT NULL,
    message      text        NOT NULL,
    trace        text,
    context      text,
    error_group  text,
    PRIMARY KEY (execution_id, delivery)
);

CREATE TABLE sequencer_flows (
    id             uuid        PRIMARY KEY,
    worker_id      uuid,
    created_at     timestamptz NOT NULL,
    finished_at    timestamptz,
    build          bigint,
    total          integer     NOT NULL,
    completed      integer     NOT NULL DEFAULT 0,
    failed         integer     NOT NULL DEFAULT 0,
    failed_allowed integer     NOT NULL DEFAULT 0,
    skipped        integer     NOT NULL DEFAULT 0,
    cancelled      integer     NOT NULL DEFAULT 0,
    interrupted    integer     NOT NULL DEFAULT 0,
    undo_total     integer     NOT NULL,
    undo_completed integer     NOT NULL DEFAULT 0,
    undo_failed    integer     NOT NULL DEFAULT 0,
    kind           text        NOT NULL,
    name           text,
    method         text        NOT NULL,
    policy         text        NOT NULL,
    phase          text        NOT NULL,
    state          text        NOT NULL,
    stop_state     text,
    reason         text,
    actor          text,
    host           text,
    options        bytea
) WITH (fillfactor = 50); -- counters change with every member: room for updates in place
CREATE INDEX sequencer_flows_created ON sequencer_flows (created_at, id);
CREATE INDEX sequencer_flows_open ON sequencer_flows (created_at, id) WHERE finished_at IS NULL;

CREATE TABLE sequencer_edges (
    from_id uuid    NOT NULL,
    to_id   uuid    NOT NULL,
    flow_id uuid,
    needs   boolean NOT NULL,
    PRIMARY KEY (from_id, to_id)
);
CREATE INDEX sequencer_edges_to ON sequencer_edges (to_id);
CREATE INDEX sequencer_edges_flow ON sequencer_edges (flow_id) WHERE flow_id IS NOT NULL;

CREATE TABLE sequencer_workers (
    id          uuid        PRIMARY KEY,
    joined_at   timestamptz NOT NULL,
    lease_until timestamptz,
    left_at     timestamptz,
    lease_us    bigint      NOT NULL,
    build       bigint,
    pid         integer     NOT NULL,
    slots       integer     NOT NULL,
    dead        boolean     NOT NULL DEFAULT false,
    purpose     text        NOT NULL,
    actor       text        NOT NULL,
    hostname    text        NOT NULL,
    boot        text,
    pid_start   text,
    version     text,
    queues      text[]
) WITH (fillfactor = 50); -- renewed every few seconds
CREATE INDEX sequencer_workers_present ON sequencer_workers (lease_until) WHERE left_at IS NULL;

CREATE TABLE sequencer_locks (
    name        text        PRIMARY KEY,
    worker_id   uuid        NOT NULL,
    flow_id     uuid,
    acquired_at timestamptz NOT NULL
);
CREATE INDEX sequencer_locks_worker ON sequencer_locks (worker_id);

CREATE TABLE sequencer_limits (
    name      text    NOT NULL,
    by        text    NOT NULL,
    n         integer NOT NULL,
    window_us bigint  NOT NULL,
    opened_at timestamptz NOT NULL,
    used      integer NOT NULL,
    PRIMARY KEY (name, by, n, window_us)
);

CREATE TABLE sequencer_schedules (
    name         text        PRIMARY KEY,
    definition   bytea       NOT NULL,
    build        bigint,
    tick_at      timestamptz,
    execution_id uuid
);

-- What each minute brought, by connection, so that calls do not wait for each
-- other's counters; readers sum over them.
CREATE TABLE sequencer_stats (
    minute    timestamptz NOT NULL,
    worker_id uuid        NOT NULL,
    queue     text        NOT NULL,
    name      text        NOT NULL,
    ending    text        NOT NULL,
    n         bigint      NOT NULL,
    ran_us    bigint      NOT NULL,
    waited_us bigint      NOT NULL,
    PRIMARY KEY (minute, worker_id, queue, name, ending)
) WITH (fillfactor = 50);

CREATE TABLE sequencer_audit (
    id      uuid        PRIMARY KEY,
    at      timestamptz NOT NULL,
    actor   text        NOT NULL,
    action  text        NOT NULL,
    target  text        NOT NULL,
    count   integer     NOT NULL,
    reason  text
);
CREATE INDEX sequencer_audit_at ON sequencer_audit (at, id);

INSERT INTO sequencer_meta (version, oldest_compatible) VALUES (1, 1);
