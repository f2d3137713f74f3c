-- Schema 1 of the ledger, which is a database. A step is not one transaction here,
-- because every statement about a table commits by itself: each may be repeated,
-- and sequencer_meta is written last.
--
-- Texts are VARBINARY and BLOB: two are equal when their bytes are, whatever the
-- collation of the server says of case and of blanks at the end. Instants are
-- microseconds since 1970 in UTC, ids 16 bytes.

-- One row: which schema this is, and the oldest binary that may work on it.
-- ledger_id tells two ledgers apart, so that a transaction of another database
-- is noticed before it is written to.
CREATE TABLE IF NOT EXISTS sequencer_meta (
    only_row          TINYINT    NOT NULL PRIMARY KEY,
    ledger_id         BINARY(16) NOT NULL,
    version           INT        NOT NULL,
    oldest_compatible INT        NOT NULL,
    updated_at        BIGINT     NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET binary;

-- The live part: pending and running. What is rarely set is null.
--
-- Nothing here has partial indexes, and an index that holds an entry for every row
-- costs each of them whether it is of use or not. So one index serves all that is
-- asked of live rows in bulk, and holder says where in it a row stands: zeroes for
-- what can be claimed (blocked rows have no due time, so no claim meets them), the
-- worker for running rows, and for parked ones 0xff, in private queues 0xfe, and the
-- beginning of their name's SHA-256. What few rows are found by stands in
-- sequencer_marks.
--
-- What a claim sets has its full width before, zeroes for none, so that the row is
-- updated where it lies: one that grew would have to move, and split its page.
CREATE TABLE IF NOT EXISTS sequencer_live (
    id              BINARY(16)     NOT NULL PRIMARY KEY,
    holder          BINARY(16)     NOT NULL,
    worker_id       BINARY(16)     NOT NULL,
    flow_id         BINARY(16),
    undoes          BINARY(16),
    created_at      BIGINT         NOT NULL,
    due_at          BIGINT,
    started_at      BIGINT         NOT NULL,
    deadline_at     BIGINT,
    min_build       BIGINT,
    delay_us        BIGINT,
    retry_for_us    BIGINT,
    unique_for_us   BIGINT,
    done            BIGINT,
    total           BIGINT,
    priority        INT            NOT NULL,
    position        INT            NOT NULL,
    waits           INT            NOT NULL,
    delivery        INT            NOT NULL,
    excused         INT            NOT NULL,
    errors          INT            NOT NULL,
    losses          INT            NOT NULL,
    undoable        TINYINT        NOT NULL,
    allowed_to_fail TINYINT        NOT NULL,
    for_now         TINYINT        NOT NULL,
    parked          TINYINT        NOT NULL,
    cancel_asked    TINYINT        NOT NULL,
    state           VARBINARY(32)  NOT NULL,
    name            VARBINARY(255) NOT NULL,
    kind            VARBINARY(32)  NOT NULL,
    method          VARBINARY(255) NOT NULL,
    queue           VARBINARY(255) NOT NULL,
    on_loss         VARBINARY(32)  NOT NULL,
    member          VARBINARY(255),
    unique_key      VARBINARY(2048),
    checksum        VARBINARY(255),
    environment     VARBINARY(255),
    actor           BLOB,
    reason          MEDIUMBLOB,
    tags            BLOB,
    input           MEDIUMBLOB,
    policy          MEDIUMBLOB,
    checkpoint      MEDIUMBLOB,
    result          MEDIUMBLOB,
    last_error      MEDIUMBLOB,
    error_group     BLOB,
    undo_error      MEDIUMBLOB,
    UNIQUE KEY sequencer_live_unique (unique_key),
    KEY sequencer_live_holder (holder, queue, priority, due_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary;

-- The history part: the same, for what is over. Listings page by (created_at, id),
-- and the id is part of every index here.
CREATE TABLE IF NOT EXISTS sequencer_history (
    id              BINARY(16)     NOT NULL PRIMARY KEY,
    worker_id       BINARY(16)     NOT NULL,
    flow_id         BINARY(16),
    undoes          BINARY(16),
    created_at      BIGINT         NOT NULL,
    due_at          BIGINT,
    started_at      BIGINT         NOT NULL,
    finished_at     BIGINT         NOT NULL,
    deadline_at     BIGINT,
    min_build       BIGINT,
    delay_us        BIGINT,
    retry_for_us    BIGINT,
    unique_for_us   BIGINT,
    done            BIGINT,
    total           BIGINT,
    priority        INT            NOT NULL,
    position        INT            NOT NULL,
    waits           INT            NOT NULL,
    delivery        INT            NOT NULL,
    excused         INT            NOT NULL,
    errors          INT            NOT NULL,
    losses          INT            NOT NULL,
    undoable        TINYINT        NOT NULL,
    allowed_to_fail TINYINT        NOT NULL,
    for_now         TINYINT        NOT NULL,
    state           VARBINARY(32)  NOT NULL,
    name            VARBINARY(255) NOT NULL,
    kind            VARBINARY(32)  NOT NULL,
    method          VARBINARY(255) NOT NULL,
    queue           VARBINARY(255) NOT NULL,
    on_loss         VARBINARY(32)  NOT NULL,
    member          VARBINARY(255),
    unique_key      VARBINARY(2048),
    checksum        VARBINARY(255),
    environment     VARBINARY(255),
    actor           BLOB,
    reason          MEDIUMBLOB,
    tags            BLOB,
    input           MEDIUMBLOB,
    policy          MEDIUMBLOB,
    checkpoint      MEDIUMBLOB,
    result          MEDIUMBLOB,
    last_error      MEDIUMBLOB,
    error_group     BLOB,
    undo_error      MEDIUMBLOB,
    KEY sequencer_history_created (created_at),
    KEY sequencer_history_name (name, created_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary;

-- What few executions are found by, of either part: flow, undoes, key, tag, for
-- ordered operations and migrations their kind with the name, and of ends that are
-- not completions state and group. A mark is a hint: it may say what was true of a
-- row once, so whoever follows it looks at the row too. It goes with its row.
CREATE TABLE IF NOT EXISTS sequencer_marks (
    mark         VARBINARY(16)   NOT NULL,
    value        VARBINARY(2048) NOT NULL,
    created_at   BIGINT          NOT NULL,
    execution_id BINARY(16)      NOT NULL,
    PRIMARY KEY (mark, value, created_at, execution_id),
    KEY sequencer_marks_execution (execution_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary;

-- Attempts that did not end well.
CREATE TABLE IF NOT EXISTS sequencer_attempts (
    execution_id BINARY(16)     NOT NULL,
    delivery     INT            NOT NULL,
    number       INT            NOT NULL,
    worker_id    BINARY(16),
    started_at   BIGINT         NOT NULL,
    finished_at  BIGINT         NOT NULL,
    outcome      VARBINARY(255) NOT NULL,
    type         BLOB           NOT NULL,
    message      MEDIUMBLOB     NOT NULL,
    trace        MEDIUMBLOB,
    context      MEDIUMBLOB,
    error_group  BLOB,
    PRIMARY KEY (execution_id, delivery)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary;

CREATE TABLE IF NOT EXISTS sequencer_flows (
    id             BINARY(16)     NOT NULL PRIMARY KEY,
    worker_id      BINARY(16),
    created_at     BIGINT         NOT NULL,
    finished_at    BIGINT,
    build          BIGINT         NOT NULL,
    total          INT            NOT NULL,
    completed      INT            NOT NULL DEFAULT 0,
    failed         INT            NOT NULL DEFAULT 0,
    failed_allowed INT            NOT NULL DEFAULT 0,
    skipped        INT            NOT NULL DEFAULT 0,
    cancelled      INT            NOT NULL DEFAULT 0,
    interrupted    INT            NOT NULL DEFAULT 0,
    undo_total     INT            NOT NULL,
    undo_completed INT            NOT NULL DEFAULT 0,
    undo_failed    INT            NOT NULL DEFAULT 0,
    kind           VARBINARY(32)  NOT NULL,
    method         VARBINARY(255) NOT NULL,
    policy         VARBINARY(32)  NOT NULL,
    phase          VARBINARY(32)  NOT NULL,
    state          VARBINARY(32)  NOT NULL,
    stop_state     VARBINARY(32),
    name           BLOB,
    reason         MEDIUMBLOB,
    actor          BLOB,
    host           BLOB,
    options        MEDIUMBLOB,
    KEY sequencer_flows_created (created_at),
    KEY sequencer_flows_open (finished_at, created_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary;

CREATE TABLE IF NOT EXISTS sequencer_edges (
    from_id BINARY(16) NOT NULL,
    to_id   BINARY(16) NOT NULL,
    flow_id BINARY(16),
    needs   TINYINT    NOT NULL,
    PRIMARY KEY (from_id, to_id),
    KEY sequencer_edges_to (to_id),
    KEY sequencer_edges_flow (flow_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary;

CREATE TABLE IF NOT EXISTS sequencer_workers (
    id          BINARY(16)     NOT NULL PRIMARY KEY,
    joined_at   BIGINT         NOT NULL,
    lease_until BIGINT,
    left_at     BIGINT,
    lease_us    BIGINT         NOT NULL,
    build       BIGINT         NOT NULL,
    pid         INT            NOT NULL,
    slots       INT            NOT NULL,
    dead        TINYINT        NOT NULL DEFAULT 0,
    purpose     VARBINARY(255) NOT NULL,
    actor       BLOB           NOT NULL,
    hostname    BLOB           NOT NULL,
    boot        BLOB,
    pid_start   BLOB,
    version     BLOB,
    queues      MEDIUMBLOB,
    names       MEDIUMBLOB,
    KEY sequencer_workers_present (left_at, lease_until)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary;

CREATE TABLE IF NOT EXISTS sequencer_locks (
    name         VARBINARY(255) NOT NULL PRIMARY KEY,
    worker_id    BINARY(16)     NOT NULL,
    execution_id BINARY(16),
    delivery     INT            NOT NULL,
    flow_id      BINARY(16),
    acquired_at  BIGINT         NOT NULL,
    free_at      BIGINT,
    KEY sequencer_locks_worker (worker_id)
) ENGINE=InnoDB DEFAULT CHARACTER SET binary;

-- Counters of limits, by window; an empty one has used 0.
CREATE TABLE IF NOT EXISTS sequencer_limits (
    name      VARBINARY(255) NOT NULL,
    by_key    VARBINARY(512) NOT NULL,
    n         BIGINT         NOT NULL,
    window_us BIGINT         NOT NULL,
    ends_at   BIGINT         NOT NULL,
    used      INT            NOT NULL,
    PRIMARY KEY (name, by_key, n, window_us),
    KEY sequencer_limits_ends (ends_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary;

-- Few rows, read whole by each claim from a queue that is not private.
CREATE TABLE IF NOT EXISTS sequencer_pauses (
    kind   VARBINARY(32)  NOT NULL,
    name   VARBINARY(255) NOT NULL,
    at     BIGINT         NOT NULL,
    actor  BLOB,
    reason MEDIUMBLOB,
    PRIMARY KEY (kind, name)
) ENGINE=InnoDB DEFAULT CHARACTER SET binary;

CREATE TABLE IF NOT EXISTS sequencer_schedules (
    name         VARBINARY(255) NOT NULL PRIMARY KEY,
    announced_at BIGINT         NOT NULL,
    last_tick_at BIGINT         NOT NULL,
    last_id      BINARY(16),
    build        BIGINT         NOT NULL,
    spec         BLOB           NOT NULL,
    zone         BLOB           NOT NULL,
    operation    BLOB           NOT NULL,
    queue        BLOB           NOT NULL,
    missed       BLOB           NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary;

-- What each minute brought, by worker, so that workers do not wait for each
-- other's counters; readers sum over them.
CREATE TABLE IF NOT EXISTS sequencer_stats (
    minute    BIGINT         NOT NULL,
    worker_id BINARY(16)     NOT NULL,
    queue     VARBINARY(255) NOT NULL,
    name      VARBINARY(255) NOT NULL,
    ending    VARBINARY(32)  NOT NULL,
    n         BIGINT         NOT NULL,
    ran_us    BIGINT         NOT NULL,
    waited_us BIGINT         NOT NULL,
    PRIMARY KEY (minute, worker_id, queue, name, ending)
) ENGINE=InnoDB DEFAULT CHARACTER SET binary;

CREATE TABLE IF NOT EXISTS sequencer_audit (
    id     BINARY(16)    NOT NULL PRIMARY KEY,
    at     BIGINT        NOT NULL,
    actor  BLOB          NOT NULL,
    action VARBINARY(32) NOT NULL,
    target MEDIUMBLOB    NOT NULL,
    count  INT           NOT NULL,
    reason MEDIUMBLOB,
    KEY sequencer_audit_at (at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary;

INSERT INTO sequencer_meta (only_row, ledger_id, version, oldest_compatible, updated_at)
VALUES (1, UNHEX(REPLACE(UUID(), '-', '')), 1, 1, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)))
ON DUPLICATE KEY UPDATE version = VALUES(version), oldest_compatible = VALUES(oldest_compatible), updated_at = VALUES(updated_at);
