package redis

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
)

// Record implements [storage.Operator].
func (s *Store) Record(ctx context.Context, r storage.RecordRequest) (int, error) {
	n := 0
	err := s.guarded(ctx, "record", func(ctx context.Context) error {
		_, err := s.unit(ctx, r.Now, func(ctx context.Context, u *unit) (err error) {
			n, err = u.record(ctx, &r)
			return err
		})
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (u *unit) record(ctx context.Context, r *storage.RecordRequest) (int, error) {
	ids := make([]storage.ID, 0, len(r.Executions))
	pipe := u.s.client.Pipeline()
	rows := make([]*redis.IntCmd, len(r.Executions))
	for i := range r.Executions {
		e := &r.Executions[i]
		if !e.State.Over() || e.ID.IsZero() {
			return 0, fmt.Errorf("%q: %w, this is %q", e.Name, errNotOver, e.State)
		}
		ids = append(ids, e.ID)
		rows[i] = pipe.ZCard(ctx, u.s.key("n:"+e.Name))
	}
	if len(ids) == 0 {
		return 0, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, err
	}
	if err := u.read(ctx, ids...); err != nil {
		return 0, err
	}
	known := map[string]bool{}
	var names []string
	for i := range r.Executions {
		e := &r.Executions[i]
		if known[e.Name] || rows[i].Val() > 0 || u.rows[e.ID].now != nil {
			known[e.Name] = known[e.Name] || rows[i].Val() > 0
			continue
		}
		u.check("ZCARD", u.s.key("n:"+e.Name), "", "0", true)
		known[e.Name] = true
		names = append(names, e.Name)
		if err := u.insert(ctx, &row{Execution: recorded(*e, u.now)}); err != nil {
			return 0, err
		}
	}
	if len(names) > 0 {
		u.addAudit("record", strings.Join(names, " "), r.Actor, r.Reason, len(names))
	}
	return len(names), nil
}

// recorded brings given instants to the ledger's precision.
func recorded(e storage.Execution, now time.Time) storage.Execution {
	for _, at := range []*time.Time{&e.CreatedAt, &e.DueAt, &e.StartedAt, &e.FinishedAt, &e.DeadlineAt} {
		if !at.IsZero() {
			*at = at.UTC().Truncate(time.Microsecond)
		}
	}
	if e.CreatedAt.IsZero() {
		e.CreatedAt = now
	}
	if e.FinishedAt.IsZero() {
		e.FinishedAt = e.CreatedAt
	}
	e.Priority = cmp.Or(e.Priority, storage.PriorityDefault)
	return e
}

// keepsForEver reports rows that no retention may delete: migrations, approvals,
// members of open flows, and of each ordered operation its newest row and every row that is
// the effective one in some environment (S5.6). Deleting the latter would offer
// the operation again.
func (u *unit) keepsForEver(ctx context.Context, r *row) (bool, error) {
	if r.Kind == storage.Migration || r.Kind == storage.KindApproval {
		return true, nil
	}
	if f, err := u.flow(ctx, r.FlowID); err != nil || f != nil && !f.Over() {
		return true, err
	}
	if r.Kind != storage.Ordered {
		return false, nil
	}
	names, err := u.s.client.ZRange(ctx, u.s.key("n:"+r.Name), 0, -1).Result()
	if err != nil {
		return true, err
	}
	ids := make([]storage.ID, len(names))
	for i, name := range names {
		ids[i] = idOf(name)
	}
	if err := u.read(ctx, ids...); err != nil {
		return true, err
	}
	newest, effective := true, r.State != storage.Cancelled
	for _, id := range ids {
		o := u.rows[id].now
		if o == nil || o.ID == r.ID || o.Kind != r.Kind || !o.State.Over() || !newer(&o.Execution, &r.Execution) {
			continue
		}
		newest = false
		// A newer row hides r everywhere, unless it counts nowhere (cancelled) or
		// only in an environment that is not r's.
		if o.State != storage.Cancelled && (!bound(&o.Execution) || bound(&r.Execution) && o.Environment == r.Environment) {
			effective = false
		}
	}
	return newest || effective, nil
}

// bound reports a skip that holds only in one environment (S8.5).
func bound(e *storage.Execution) bool { return e.State == storage.Skipped && e.Environment != "" }

// newer is the order of Newest: live before history, then CreatedAt, then id.
func newer(a, b *storage.Execution) bool {
	if live := !a.State.Over(); live != !b.State.Over() {
		return live
	}
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), compareIDs(a.ID, b.ID)) > 0
}
