package mysql

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// What a claim takes.
//
// Index: sequencer_live_holder. Naming the levels lets it be walked level by level, in
// the order that is asked for, until the batch is full; rows of a high level that are
// due later are never met, nor other queues, running, parked and blocked rows.
//
// Lock: the rows, skipping what another claim has locked, and waiting for nobody.
const (
	dueSQL = `
SELECT ` + claimedColumns + ` FROM sequencer_live l FORCE INDEX (sequencer_live_holder)
WHERE l.holder = ? AND l.queue = ? AND l.priority IN (1, 2, 3, 4) AND l.due_at <= @sequencer_now`
	pickSQL = dueSQL + `
	AND NOT EXISTS (SELECT 1 FROM sequencer_pauses p WHERE p.kind = 'queue' AND p.name = ?)
ORDER BY l.priority, l.due_at, l.id LIMIT ? FOR UPDATE SKIP LOCKED`
	pickParkedSQL = dueSQL + ` AND COALESCE(l.min_build, 0) <= ?
ORDER BY l.priority, l.due_at, l.id LIMIT ? FOR UPDATE SKIP LOCKED`
)

// takeSQL makes rows running that were picked, and so are locked, by primary key.
const takeSQL = `
UPDATE sequencer_live FORCE INDEX (PRIMARY)
SET holder = ?, state = 'running', worker_id = ?, delivery = delivery + 1, parked = 0, started_at = IF(started_at = 0, @sequencer_now, started_at)
WHERE id IN (?)`

// laterSQL finds the first entry of each level after now, and whether there is one
// that is due: another transaction holds it, a claim or an operator's write, or this
// claim would have it. It is asked with the last words of a claim that was not filled:
// where claims come fast, its seeks meet what they left in the index for purge to remove.
const laterSQL = `
SELECT
	EXISTS (SELECT 1 FROM sequencer_live FORCE INDEX (sequencer_live_holder)
		WHERE holder = X'00000000000000000000000000000000' AND queue = ? AND priority IN (1, 2, 3, 4) AND due_at <= @sequencer_now),
	(SELECT due_at FROM sequencer_live FORCE INDEX (sequencer_live_holder)
		WHERE holder = X'00000000000000000000000000000000' AND queue = ? AND priority = 1 AND due_at > @sequencer_now ORDER BY due_at LIMIT 1),
	(SELECT due_at FROM sequencer_live FORCE INDEX (sequencer_live_holder)
		WHERE holder = X'00000000000000000000000000000000' AND queue = ? AND priority = 2 AND due_at > @sequencer_now ORDER BY due_at LIMIT 1),
	(SELECT due_at FROM sequencer_live FORCE INDEX (sequencer_live_holder)
		WHERE holder = X'00000000000000000000000000000000' AND queue = ? AND priority = 3 AND due_at > @sequencer_now ORDER BY due_at LIMIT 1),
	(SELECT due_at FROM sequencer_live FORCE INDEX (sequencer_live_holder)
		WHERE holder = X'00000000000000000000000000000000' AND queue = ? AND priority = 4 AND due_at > @sequencer_now ORDER BY due_at LIMIT 1)`

// anyParkedSQL tells whether there are parked rows at all. Index: one entry of
// sequencer_live_holder.
const anyParkedSQL = `SELECT 1 FROM sequencer_live FORCE INDEX (sequencer_live_holder) WHERE holder >= X'FE000000000000000000000000000000' LIMIT 1`

// knownParkedSQL tells of which names a queue has parked rows for a build, how many are
// due, and when the first after now is. Index: all entries of these names.
const knownParkedSQL = `
SELECT holder, SUM(due_at <= @sequencer_now), MIN(CASE WHEN due_at > @sequencer_now THEN due_at END) FROM sequencer_live FORCE INDEX (sequencer_live_holder)
WHERE holder IN (?) AND queue = ? AND due_at IS NOT NULL AND COALESCE(min_build, 0) <= ? GROUP BY holder`

// pausedSQL reads a handful of rows.
const pausedSQL = `SELECT kind, name FROM sequencer_pauses WHERE kind IN ('queue', 'operation') ORDER BY name`

// Claim implements [storage.Queue].
func (s *Store) Claim(ctx context.Context, r storage.ClaimRequest) (storage.Claimed, error) {
	var c claiming
	err := s.tx(ctx, "claim", r.Now, func(ctx context.Context, q *session) error {
		alive := false
		q.queueAlive(r.Worker, &alive)
		err := c.run(ctx, q, r)
		if err == nil && !alive {
			err = leaseLost(r.Worker)
		}
		return err
	})
	if err != nil {
		return storage.Claimed{}, err
	}
	return c.result(), nil
}

// claiming is a claim under way, of a worker that is alive.
type claiming struct {
	request storage.ClaimRequest
	lines   []line
	paused  []string // operations
	parked  bool     // there are parked rows, and some may be known
	rows    []storage.Execution
	now     time.Time
}

// line is what a claim knows of one queue.
type line struct {
	queue  string
	paused bool
	locked bool        // rows are due that somebody else holds
	later  []time.Time // when rows are due after now: the first of each level, and parked ones
}

// run picks rows, and leaves their taking queued. It asks once for each queue until
// the batch is full.
func (c *claiming) run(ctx context.Context, q *session, r storage.ClaimRequest) error {
	*c = claiming{request: r, lines: make([]line, len(r.Queues))}
	for i, queue := range r.Queues {
		c.lines[i].queue = queue
	}
	if storage.AsksPauses(r.Queues) {
		q.queueScan(c.notePause, pausedSQL)
	}
	if len(r.Names) > 0 {
		q.queueScan(func(scanner) error { c.parked = true; return nil }, anyParkedSQL)
	}
	for i := range c.lines {
		if err := c.serve(ctx, q, &c.lines[i]); err != nil {
			return err
		}
	}
	c.now = q.now
	c.take(q)
	if !c.full() {
		for i := range c.lines {
			c.lines[i].queueLater(q)
		}
	}
	return nil
}

// notePause reads a pause.
func (c *claiming) notePause(r scanner) error {
	var kind, name string
	err := r.Scan(&kind, &name)
	if kind == string(storage.PauseOperation) {
		c.paused = append(c.paused, name)
		return err
	}
	for i := range c.lines {
		if c.lines[i].queue == name {
			c.lines[i].paused = true
		}
	}
	return err
}

// queueLater asks for the first due time of each level after now, and for what is locked.
func (l *line) queueLater(q *session) {
	queue := text(l.queue)
	q.queueScan(func(r scanner) error {
		var levels [4]time.Time
		var locked bool
		err := r.Scan(&locked, instant{&levels[0]}, instant{&levels[1]}, instant{&levels[2]}, instant{&levels[3]})
		l.locked = l.locked || locked
		l.later = append(l.later, levels[:]...)
		return err
	}, laterSQL, queue, queue, queue, queue, queue)
}

// scan receives rows.
func (c *claiming) scan() func(scanner) error {
	row := newExecutionRow()
	return func(from scanner) error {
		if err := from.Scan(row.claimed...); err != nil {
			return err
		}
		if len(c.rows) == 16 { // more than a few: make room for the whole batch at once
			c.rows = slices.Grow(c.rows, max(c.request.Limit-16, 0))
		}
		c.rows = append(c.rows, row.e)
		return nil
	}
}

func (c *claiming) full() bool { return len(c.rows) >= c.request.Limit }

// serve picks from a queue what there is room for.
func (c *claiming) serve(ctx context.Context, q *session, l *line) error {
	if c.full() || l.paused {
		return nil
	}
	place := len(c.rows)
	q.queueScan(c.scan(), pickSQL, nobody, text(l.queue), text(l.queue), c.request.Limit-place)
	if err := q.flush(ctx); err != nil {
		return err
	}
	if !c.parked || l.paused {
		return nil
	}
	return c.unpark(ctx, q, l, place)
}

// unpark picks parked rows of a queue and puts them in order with those that were
// picked from it, the first of which is at place. What is too much stays as it is.
func (c *claiming) unpark(ctx context.Context, q *session, l *line, place int) error {
	var known, due textList
	count := 0 // of those that are due
	for _, name := range c.request.Names {
		if !slices.Contains(c.paused, name) {
			known = append(known, string(parkedHolder(l.queue, name)))
		}
	}
	for _, part := range some(known) {
		q.queueScan(func(r scanner) error {
			var holder string
			var ready int
			var later time.Time
			err := r.Scan(&holder, &ready, instant{&later})
			l.later = append(l.later, later)
			if ready > 0 {
				due = append(due, holder)
				count += ready
			}
			return err
		}, knownParkedSQL, part, text(l.queue), c.request.Build)
	}
	if err := q.flush(ctx); err != nil {
		return err
	}
	unparked := len(c.rows)
	for _, holder := range due {
		q.queueScan(c.scan(), pickParkedSQL, text(holder), text(l.queue), c.request.Build, c.request.Limit-place)
	}
	if err := q.flush(ctx); err != nil {
		return err
	}
	l.locked = len(c.rows)-unparked < count
	slices.SortFunc(c.rows[place:], func(a, b storage.Execution) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), a.DueAt.Compare(b.DueAt), bytes.Compare(a.ID[:], b.ID[:]))
	})
	c.rows = c.rows[:min(len(c.rows), c.request.Limit)]
	return nil
}

// take queues the taking of what was picked, and makes the rows what they will be.
func (c *claiming) take(q *session) {
	if !c.full() {
		q.arrivals.Taken(c.request.Queues...)
	}
	taken := make(idList, len(c.rows))
	for i := range c.rows {
		e := &c.rows[i]
		taken[i] = e.ID
		e.State, e.WorkerID = storage.Running, c.request.Worker
		e.Delivery++
		if e.StartedAt.IsZero() {
			e.StartedAt = c.now
		}
	}
	for _, part := range some(taken) {
		q.queue(takeSQL, c.request.Worker[:], c.request.Worker[:], part)
	}
}

// result is what was claimed, in the order of claims.
func (c *claiming) result() storage.Claimed {
	got := storage.Claimed{Executions: c.rows, NextDue: -1, PausedNames: c.paused}
	if c.full() {
		got.NextDue = 0
		return got
	}
	for i := range c.lines {
		if c.lines[i].paused {
			continue
		}
		soon := func(wait time.Duration) {
			if got.NextDue < 0 || wait < got.NextDue {
				got.NextDue = wait
			}
		}
		for _, due := range c.lines[i].later {
			if !due.IsZero() {
				soon(due.Sub(c.now))
			}
		}
		if c.lines[i].locked {
			soon(storage.LockedFor)
		}
	}
	return got
}

func leaseLost(worker storage.ID) error {
	return fmt.Errorf("worker %s: %w", worker, storage.ErrLeaseLost)
}
