package postgres

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// aliveSQL asks whether a worker may still claim, by primary key. The claim at the
// end of the transaction will check it again; asked here, a dead worker's call can
// still write nothing at all.
const aliveSQL = `
SELECT EXISTS (
	SELECT FROM sequencer_workers
	WHERE id = $2::uuid AND left_at IS NULL AND (lease_until IS NULL OR lease_until > coalesce($1::timestamptz, now())))`

// moveSQL ends executions: one statement takes them from the live part and puts
// them into history.
//
// Index: live rows by primary key. The fence is one CASE, because as conditions of
// their own state and worker look so selective to the planner that it starts from
// them, and compares every running row with every outcome. Lock: the rows it deletes. Race: state, worker
// and delivery are the fence; a row that a rescuer or a later claim has changed
// meanwhile is re-read when its lock is granted, no longer matches, and stays.
//
// A row of the answer is an outcome that was applied; what the flow rules need is
// only filled in for members and undos, and everything else stays on the server.
const moveSQL = `
WITH o AS (
	SELECT * FROM unnest($3::uuid[], $4::int[], $5::text[], $6::bool[], $7::int[], $8::int[], $9::text[], $10::bool[],
		$11::text[], $12::bytea[], $13::bool[], $14::bigint[], $15::bigint[], $16::bool[], $17::text[], $18::text[])
	AS o (o_id, o_delivery, o_state, o_excuse, o_errors, o_losses, o_reason, o_for_now,
		o_env, o_result, o_progress, o_done, o_total, o_failed, o_message, o_group)
), gone AS (
	DELETE FROM sequencer_live l USING o
	WHERE l.id = o.o_id AND CASE WHEN l.state = 'running' AND l.worker_id = $2::uuid THEN l.delivery END = o.o_delivery
	RETURNING
		id, flow_id, worker_id, undoes, created_at, due_at, started_at, coalesce($1::timestamptz, now()), deadline_at, min_build,
		delay_us, retry_for_us, unique_for_us, CASE WHEN o_progress THEN o_done ELSE done END,
		CASE WHEN o_progress THEN o_total ELSE total END, priority, position, waits, delivery,
		CASE WHEN o_excuse THEN excused + 1 ELSE excused END, coalesce(o_errors, 0), coalesce(o_losses, 0),
		undoable, allowed_to_fail, coalesce(o_for_now, false), false, false, o_state, name, kind, method, queue, on_loss, actor, member,
		unique_key, nullif(o_reason, ''), nullif(o_env, ''), checksum, tags, input, policy, checkpoint, coalesce(o_result, result),
		CASE WHEN o_failed THEN nullif(o_message, '') ELSE last_error END,
		CASE WHEN o_failed THEN nullif(o_group, '') ELSE error_group END, undo_error
)
INSERT INTO sequencer_history (
	id, flow_id, worker_id, undoes, created_at, due_at, started_at, finished_at, deadline_at, min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
	undoable, allowed_to_fail, for_now, parked, cancel_asked, state, name, kind, method, queue, on_loss, actor, member,
	unique_key, reason, environment, checksum, tags, input, policy, checkpoint, result, last_error, error_group, undo_error)
SELECT * FROM gone
RETURNING id, delivery, name, queue, due_at, excused, kind, method, flow_id, undoes, allowed_to_fail,
	CASE WHEN flow_id IS NOT NULL OR undoes IS NOT NULL THEN
		CASE WHEN state IN ('skipped', 'cancelled') THEN reason ELSE last_error END END`

// moveCleanSQL is moveSQL for the usual end: completed, with nothing to say about it,
// of rows that are known and undo nothing. A third of the columns of either side are
// then not there.
const moveCleanSQL = `
WITH gone AS (
	DELETE FROM sequencer_live l USING unnest($3::uuid[], $4::int[], $5::int[], $6::int[]) AS o (o_id, o_delivery, o_errors, o_losses)
	WHERE l.id = o.o_id AND CASE WHEN l.state = 'running' AND l.worker_id = $2::uuid THEN l.delivery END = o.o_delivery
	RETURNING
		id, flow_id, worker_id, undoes, created_at, due_at, started_at, coalesce($1::timestamptz, now()), deadline_at, min_build,
		delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused,
		coalesce(o_errors, 0), coalesce(o_losses, 0), undoable, allowed_to_fail, false, false, false,
		'completed', name, kind, method, queue, on_loss, actor, member,
		unique_key, checksum, tags, input, policy, checkpoint, result, last_error, error_group, undo_error
)
INSERT INTO sequencer_history (
	id, flow_id, worker_id, undoes, created_at, due_at, started_at, finished_at, deadline_at, min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused,
	errors, losses, undoable, allowed_to_fail, for_now, parked, cancel_asked,
	state, name, kind, method, queue, on_loss, actor, member,
	unique_key, checksum, tags, input, policy, checkpoint, result, last_error, error_group, undo_error)
SELECT * FROM gone
RETURNING id, delivery`

// deferSQL puts executions back to pending. Index, lock and race as moveSQL's. A
// row of a private queue keeps its worker, which is its home. What was asked to stop is
// left alone, see stop.
const deferSQL = `
WITH held AS MATERIALIZED (
	SELECT l.due_at AS was_due_at, o.* FROM sequencer_live l
	JOIN unnest($3::uuid[], $4::int[], $5::bool[], $6::int[], $7::int[], $8::text[], $9::bool[],
		$10::text[], $11::bytea[], $12::bool[], $13::bigint[], $14::bigint[], $15::bool[], $16::text[], $17::text[],
		$18::bigint[], $19::bool[], $20::bool[])
	AS o (o_id, o_delivery, o_excuse, o_errors, o_losses, o_reason, o_for_now,
		o_env, o_result, o_progress, o_done, o_total, o_failed, o_message, o_group, o_delay_us, o_park, o_rewind)
	ON l.id = o.o_id AND CASE WHEN l.state = 'running' AND l.worker_id = $2::uuid AND (NOT l.cancel_asked OR l.kind = 'hook')
		THEN l.delivery END = o.o_delivery
	FOR UPDATE OF l
)
UPDATE sequencer_live l SET
	state = 'pending',
	worker_id = CASE WHEN starts_with(queue, '@') THEN worker_id END,
	due_at = coalesce($1::timestamptz, now()) + coalesce(o_delay_us, 0) * interval '1 microsecond',
	deadline_at = CASE WHEN o_rewind
		THEN coalesce($1::timestamptz, now()) + (coalesce(o_delay_us, 0) + retry_for_us) * interval '1 microsecond'
		ELSE deadline_at END,
	excused = CASE WHEN o_excuse THEN excused + 1 ELSE excused END,
	errors = coalesce(o_errors, 0),
	losses = coalesce(o_losses, 0),
	parked = coalesce(o_park, false),
	reason = nullif(o_reason, ''),
	for_now = coalesce(o_for_now, false),
	environment = nullif(o_env, ''),
	result = coalesce(o_result, result),
	done = CASE WHEN o_progress THEN o_done ELSE done END,
	total = CASE WHEN o_progress THEN o_total ELSE total END,
	last_error = CASE WHEN o_failed THEN nullif(o_message, '') ELSE last_error END,
	error_group = CASE WHEN o_failed THEN nullif(o_group, '') ELSE error_group END
FROM held
WHERE l.id = o_id
RETURNING id, delivery, name, queue, was_due_at, excused, kind`

// heldSQL names a row that the worker holds at a delivery.
const heldSQL = `SELECT name FROM sequencer_live
	WHERE id = $1::uuid AND state = 'running' AND worker_id = $2::uuid AND delivery = $3::int`

// attemptsSQL records attempts that did not end well. Index: the primary key,
// which also makes a repeat harmless.
const attemptsSQL = `
INSERT INTO sequencer_attempts
	(execution_id, delivery, number, worker_id, started_at, finished_at, outcome, type, message, trace, context, error_group)
SELECT id, delivery, coalesce(number, 0), $2::uuid, $1::timestamptz - coalesce(ran_us, 0) * interval '1 microsecond', $1::timestamptz,
	coalesce(outcome, ''), coalesce(type, ''), coalesce(message, ''), nullif(trace, ''), nullif(context, ''), nullif(error_group, '')
FROM unnest($3::uuid[], $4::int[], $5::int[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
	AS a (id, delivery, number, ran_us, outcome, type, message, trace, context, error_group)
ON CONFLICT DO NOTHING`

// statsSQL adds to the statistics. Each connection has counters of its own, under a
// digest where a worker's id could stand, because two calls that met in one would
// commit one after the other.
const statsSQL = `
INSERT INTO sequencer_stats AS s (minute, worker_id, queue, name, ending, n, ran_us, waited_us)
SELECT date_trunc('minute', $1::timestamptz, 'UTC'), md5(pg_backend_pid()::text)::uuid, queue, name, ending, n,
	coalesce(ran_us, 0), coalesce(waited_us, 0)
FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
	AS d (queue, name, ending, n, ran_us, waited_us)
ORDER BY queue, name, ending
ON CONFLICT (minute, worker_id, queue, name, ending) DO UPDATE SET
	n = s.n + excluded.n, ran_us = s.ran_us + excluded.ran_us, waited_us = s.waited_us + excluded.waited_us`

// Finish implements [storage.Queue]. Without outcomes it is a claim.
func (s *Store) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	if len(r.Outcomes) == 0 && r.Claim != nil {
		claim := *r.Claim
		claim.Worker, claim.Now = r.Worker, r.Now
		claimed, err := s.Claim(ctx, claim)
		if err != nil {
			return storage.Finished{}, err
		}
		return storage.Finished{Applied: []bool{}, Claimed: claimed}, nil
	}
	var f finishing
	err := s.tx(ctx, "finish", r.Now, func(ctx context.Context, q *session) error {
		f = finishing{request: r}
		return f.run(ctx, q)
	})
	if err != nil {
		return storage.Finished{}, err
	}
	return f.result(), nil
}

// finishing is a FinishRequest under way.
type finishing struct {
	request storage.FinishRequest
	applied []bool
	stopped storage.Finished // which outcomes, and no more
	numbers map[fence]int    // of the outcomes
	endings []settle.Ending
	flows   []storage.Flow
	stats   map[statKey]*statSum
	failed  []storage.Attempt
	claim   claiming
}

// fence names a delivery.
type fence struct {
	id       storage.ID
	delivery int
}

type statKey struct{ queue, name, ending string }

type statSum struct {
	n           int64
	ran, waited time.Duration
}

func (f *finishing) result() storage.Finished {
	done := storage.Finished{Applied: f.applied, Stopped: f.stopped.Stopped, Flows: f.flows}
	if f.request.Claim != nil {
		done.Claimed = f.claim.result()
	}
	return done
}

// run leaves its last writes and the claim queued, to travel with the commit.
func (f *finishing) run(ctx context.Context, q *session) error {
	r := f.request
	f.applied = make([]bool, len(r.Outcomes))
	f.stats = map[statKey]*statSum{}
	given, alive := at(q.now), true
	if r.Claim != nil {
		q.queueAlive(r.Worker, &alive)
	}
	clean, ends, returns, drops, err := f.sort(ctx, q)
	if err != nil {
		return err
	}
	rows := make([]movedRow, 0, len(r.Outcomes))
	if len(clean) > 0 {
		f.queueMoveClean(q, given, clean, &rows)
	}
	if len(ends) > 0 {
		f.queueMove(q, given, ends, &rows)
	}
	if len(returns) > 0 {
		f.queueDefer(q, given, returns, &rows)
	}
	if len(drops) > 0 {
		f.queueDrop(q, drops, &rows)
	}
	if err := q.flush(ctx); err != nil {
		return err
	}
	if !alive {
		return leaseLost(r.Worker)
	}
	if err := f.stop(ctx, q, given, returns, &rows); err != nil {
		return err
	}
	f.apply(q, rows)
	if f.flows, err = settle.Endings(ctx, &flowRows{q}, q.now, f.endings); err != nil {
		return err
	}
	q.queueHooks(r.Hooks(f.applied))
	f.queueAttempts(q)
	f.queueUnlock(q)
	if r.Claim != nil {
		claim := *r.Claim
		claim.Worker = r.Worker
		f.claim.queue(q, claim)
	}
	f.queueStats(q)
	return nil
}

// stop ends what was asked to stop, and so was not put back to pending. Of the others
// that were not, the fence does not hold, and cannot hold again.
func (f *finishing) stop(ctx context.Context, q *session, now any, returns []int, rows *[]movedRow) error {
	wrote := make(map[int]bool, len(*rows))
	for i := range *rows {
		wrote[(*rows)[i].outcome] = true
	}
	asked := slices.DeleteFunc(returns, func(n int) bool { return wrote[n] })
	if len(asked) == 0 {
		return nil
	}
	given := f.request.Outcomes
	f.request.Outcomes = slices.Clone(given)
	for _, n := range asked {
		f.request.Outcomes[n] = given[n].Stopped()
	}
	before := len(*rows)
	f.queueMove(q, now, asked, rows)
	if err := q.flush(ctx); err != nil {
		return err
	}
	for _, m := range (*rows)[before:] {
		f.stopped.Stop(m.outcome, len(given))
	}
	return nil
}

// sort parts the outcomes, by number, into ends, the clean ones apart, returns to
// pending, and ends of hooks. One that
// names no state a running row can take is an error if its fence holds, and void
// otherwise. Of several for one delivery the first counts.
func (f *finishing) sort(ctx context.Context, q *session) (clean, ends, returns, drops []int, err error) {
	f.numbers = make(map[fence]int, len(f.request.Outcomes))
	for i := range f.request.Outcomes {
		o := &f.request.Outcomes[i]
		key := fence{o.ID, o.Delivery}
		if _, twice := f.numbers[key]; twice {
			continue
		}
		f.numbers[key] = i
		switch {
		case !storage.Running.CanBecome(o.State):
			if err := f.refuse(ctx, q, o); err != nil {
				return nil, nil, nil, nil, err
			}
		case o.State == storage.Pending:
			returns = append(returns, i)
		case o.Drops():
			drops = append(drops, i)
		case isClean(o):
			clean = append(clean, i)
		default:
			ends = append(ends, i)
		}
	}
	return clean, ends, returns, drops, nil
}

func isClean(o *storage.Outcome) bool {
	return o.Of != nil && o.Of.Undoes.IsZero() && o.State == storage.Completed &&
		o.Failure == nil && o.Progress == nil && o.Result == nil && !o.Excuse && o.Reason == "" && !o.ForNow && o.Env == ""
}

func (f *finishing) refuse(ctx context.Context, q *session, o *storage.Outcome) error {
	held := storage.TransitionError{ID: o.ID, From: storage.Running, To: o.State}
	err := q.each(ctx, func(r scanner) error { return r.Scan(&held.Name) },
		heldSQL, o.ID.String(), f.request.Worker.String(), o.Delivery)
	if err == nil && held.Name != "" {
		return &held
	}
	return err
}

// movedRow is the answer for an outcome that was applied.
type movedRow struct {
	fence
	outcome       int
	name, queue   string
	method        string
	dueAt         pgtype.Timestamptz
	excused       int
	kind          storage.Kind
	flow, undoes  storage.ID
	message       pgtype.Text
	allowedToFail bool
}

func (f *finishing) queueMoveClean(q *session, now any, clean []int, rows *[]movedRow) {
	o := f.outcomes(clean)
	var key fence
	dest := []any{idScan{&key.id}, &key.delivery}
	q.queueScan(func(r scanner) error {
		if err := r.Scan(dest...); err != nil {
			return err
		}
		i := f.numbers[key]
		of := f.request.Outcomes[i].Of
		*rows = append(*rows, movedRow{
			fence: key, outcome: i, name: of.Name, queue: of.Queue, kind: of.Kind, method: of.Method, flow: of.FlowID, allowedToFail: of.AllowedToFail,
			dueAt: pgtype.Timestamptz{Time: of.DueAt, Valid: !of.DueAt.IsZero()},
		})
		return nil
	}, moveCleanSQL, now, f.request.Worker.String(), idColumn(o, (*sent).id), column(o, (*sent).delivery),
		column(o, (*sent).errors), column(o, (*sent).losses))
}

func (f *finishing) queueMove(q *session, now any, ends []int, rows *[]movedRow) {
	o := f.outcomes(ends)
	var m movedRow
	dest := []any{
		idScan{&m.id}, &m.delivery, &m.name, &m.queue, &m.dueAt, &m.excused, (*string)(&m.kind), &m.method, idScan{&m.flow}, idScan{&m.undoes}, &m.allowedToFail, &m.message,
	}
	q.queueScan(func(r scanner) error {
		if err := r.Scan(dest...); err != nil {
			return err
		}
		m.outcome = f.numbers[m.fence]
		*rows = append(*rows, m)
		return nil
	}, moveSQL, now, f.request.Worker.String(),
		idColumn(o, (*sent).id), column(o, (*sent).delivery), column(o, (*sent).state), column(o, (*sent).excuse),
		column(o, (*sent).errors), column(o, (*sent).losses), column(o, (*sent).reason), column(o, (*sent).forNow),
		column(o, (*sent).env), bytesColumn(o, (*sent).result), column(o, (*sent).progress), column(o, (*sent).done),
		column(o, (*sent).total), column(o, (*sent).failed), column(o, (*sent).message), column(o, (*sent).group))
}

func (f *finishing) queueDefer(q *session, now any, returns []int, rows *[]movedRow) {
	o := f.outcomes(returns)
	var m movedRow
	dest := []any{idScan{&m.id}, &m.delivery, &m.name, &m.queue, &m.dueAt, &m.excused, (*string)(&m.kind)}
	q.queueScan(func(r scanner) error {
		if err := r.Scan(dest...); err != nil {
			return err
		}
		m.outcome = f.numbers[m.fence]
		*rows = append(*rows, m)
		return nil
	}, deferSQL, now, f.request.Worker.String(),
		idColumn(o, (*sent).id), column(o, (*sent).delivery), column(o, (*sent).excuse),
		column(o, (*sent).errors), column(o, (*sent).losses), column(o, (*sent).reason), column(o, (*sent).forNow),
		column(o, (*sent).env), bytesColumn(o, (*sent).result), column(o, (*sent).progress), column(o, (*sent).done),
		column(o, (*sent).total), column(o, (*sent).failed), column(o, (*sent).message), column(o, (*sent).group),
		column(o, (*sent).delay), column(o, (*sent).park), column(o, (*sent).rewind))
}

// apply notes what was written, in the order of the outcomes.
func (f *finishing) apply(q *session, rows []movedRow) {
	slices.SortFunc(rows, func(a, b movedRow) int { return cmp.Compare(a.outcome, b.outcome) })
	for i := range rows {
		m := &rows[i]
		o := &f.request.Outcomes[m.outcome]
		f.applied[m.outcome] = true
		f.count(q.now, m, o)
		if o.State == storage.Pending && o.Delay <= 0 && !o.Park {
			q.arrivals.In(m.queue)
		}
		if o.Failure != nil {
			f.failed = append(f.failed, f.attemptOf(q.now, m, o))
		}
		if o.State.Over() && (!m.flow.IsZero() || !m.undoes.IsZero()) {
			f.endings = append(f.endings, settle.Ending{
				ID: o.ID, FlowID: m.flow, Name: m.name, Kind: m.kind, Method: m.method, State: o.State, ForNow: o.ForNow, Adds: o.Added(),
				AllowedToFail: m.allowedToFail, Undoes: m.undoes, Message: m.message.String,
			})
		}
	}
}

// count adds an outcome to the statistics. A delivery that cost no attempt is no
// retry.
func (f *finishing) count(now time.Time, m *movedRow, o *storage.Outcome) {
	ending := string(o.State)
	if o.State == storage.Pending {
		if o.Excuse {
			return
		}
		ending = "retried"
	}
	for queue := range storage.CountedUnder(m.kind, m.queue, o) {
		key := statKey{queue, m.name, ending}
		sum := f.stats[key]
		if sum == nil {
			sum = &statSum{}
			f.stats[key] = sum
		}
		sum.n++
		sum.ran += o.Ran
		if waited := now.Add(-o.Ran).Sub(m.dueAt.Time); m.dueAt.Valid && waited > 0 {
			sum.waited += waited
		}
	}
}

// queueUnlock frees the locks of attempts that are over, applied or not.
func (f *finishing) queueUnlock(q *session) {
	var names []string
	var owners []storage.ID
	var deliveries []int32
	for i := range f.request.Outcomes {
		o := &f.request.Outcomes[i]
		for _, name := range o.Unlock {
			names, owners, deliveries = append(names, name), append(owners, o.ID), append(deliveries, int32(o.Delivery))
		}
	}
	if len(names) > 0 {
		q.queue(unlockSQL, f.request.Worker.String(), names, idArray(owners), deliveries)
	}
}

func (f *finishing) queueAttempts(q *session) {
	if len(f.failed) == 0 {
		return
	}
	a := f.failed
	type row = storage.Attempt
	q.queue(attemptsSQL, q.now, f.request.Worker.String(),
		idColumn(a, func(a *row) storage.ID { return a.ExecutionID }),
		column(a, func(a *row) int32 { return int32(a.Delivery) }),
		column(a, func(a *row) int32 { return int32(a.Number) }),
		column(a, func(a *row) int64 { return q.now.Sub(a.StartedAt).Microseconds() }),
		column(a, func(a *row) string { return clean(a.Outcome) }),
		column(a, func(a *row) string { return clean(a.Type) }),
		column(a, func(a *row) string { return clean(a.Message) }),
		column(a, func(a *row) string { return clean(a.Trace) }),
		column(a, func(a *row) string { return clean(a.Context) }),
		column(a, func(a *row) string { return clean(a.Group) }))
}

func (f *finishing) queueStats(q *session) {
	if len(f.stats) == 0 {
		return
	}
	keys := slices.Collect(maps.Keys(f.stats))
	q.queue(statsSQL, q.now,
		column(keys, func(k *statKey) string { return k.queue }),
		column(keys, func(k *statKey) string { return k.name }),
		column(keys, func(k *statKey) string { return k.ending }),
		column(keys, func(k *statKey) int64 { return f.stats[*k].n }),
		column(keys, func(k *statKey) int64 { return f.stats[*k].ran.Microseconds() }),
		column(keys, func(k *statKey) int64 { return f.stats[*k].waited.Microseconds() }))
}
