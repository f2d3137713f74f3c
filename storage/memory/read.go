package memory

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

const (
	defaultLimit = 100
	maxLimit     = 10_000
)

// Newest implements [storage.Reader].
func (s *Store) Newest(ctx context.Context, r storage.NewestRequest) ([]storage.Effective, error) {
	found := []storage.Effective{}
	err := s.read(ctx, func() error {
		for _, rows := range s.named {
			best := map[storage.Kind]*row{}
			for _, e := range rows {
				if e.State == storage.Cancelled || bound(&e.Execution) && e.Environment != r.Environment {
					continue
				}
				if b := best[e.Kind]; b == nil || newer(&e.Execution, &b.Execution) {
					best[e.Kind] = e
				}
			}
			for _, e := range best {
				found = append(found, e.Effective())
			}
		}
		return nil
	})
	slices.SortFunc(found, func(a, b storage.Effective) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return found, err
}

// Executions implements [storage.Reader].
func (s *Store) Executions(ctx context.Context, f storage.Filter) ([]storage.Execution, error) {
	if f.IDPrefix != "" && len(f.IDPrefix) < 8 {
		return nil, errors.New("an id prefix needs at least 8 characters")
	}
	order := func(at time.Time, id storage.ID, e *storage.Execution) int {
		c := cmp.Or(e.CreatedAt.Compare(at), compareIDs(e.ID, id))
		if f.Oldest {
			return c
		}
		return -c
	}
	found := []storage.Execution{}
	err := s.read(ctx, func() error {
		var rows []*row
		for _, e := range s.rows {
			if selects(&f, &e.Execution) && (f.After == nil || order(clock(f.After.At), f.After.ID, &e.Execution) > 0) {
				rows = append(rows, e)
			}
		}
		slices.SortFunc(rows, func(a, b *row) int { return order(b.CreatedAt, b.ID, &a.Execution) })
		for _, e := range limited(rows, min(f.Limit, maxLimit)) {
			found = append(found, copied(e.Execution))
		}
		return nil
	})
	return found, err
}

func selects(f *storage.Filter, e *storage.Execution) bool {
	return (len(f.IDs) == 0 || slices.Contains(f.IDs, e.ID)) &&
		(f.IDPrefix == "" || strings.HasPrefix(e.ID.String(), strings.ToLower(f.IDPrefix))) &&
		(len(f.States) == 0 || slices.Contains(f.States, e.State)) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, e.Kind)) &&
		(f.Name == "" || matches(f.Name, e.Name)) &&
		(f.Queue == "" || f.Queue == e.Queue) &&
		(f.Tag == "" || slices.Contains(e.Tags, f.Tag)) &&
		(f.FlowID.IsZero() || f.FlowID == e.FlowID) &&
		(f.Member == "" || f.Member == e.Member) &&
		(f.Method == "" || f.Method == e.Method) &&
		(f.Undoes.IsZero() || f.Undoes == e.Undoes) &&
		(f.WorkerID.IsZero() || f.WorkerID == e.WorkerID) &&
		(f.Group == "" || f.Group == e.ErrorGroup) &&
		(f.UniqueKey == "" || f.UniqueKey == e.UniqueKey) &&
		(f.Since.IsZero() || !e.CreatedAt.Before(f.Since)) &&
		(f.Until.IsZero() || e.CreatedAt.Before(f.Until))
}

// matches compares a name with a pattern in which only * is special (S32.5).
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name = name[at+len(part):]
	}
	return true
}

// Attempts implements [storage.Reader].
func (s *Store) Attempts(ctx context.Context, executions ...storage.ID) ([]storage.Attempt, error) {
	found := []storage.Attempt{}
	err := s.read(ctx, func() error {
		for _, id := range executions {
			found = append(found, s.attempts[id]...)
		}
		return nil
	})
	slices.SortStableFunc(found, func(a, b storage.Attempt) int {
		return cmp.Or(a.FinishedAt.Compare(b.FinishedAt), compareIDs(a.ExecutionID, b.ExecutionID), cmp.Compare(a.Delivery, b.Delivery))
	})
	return found, err
}

// Flows implements [storage.Reader].
func (s *Store) Flows(ctx context.Context, f storage.FlowFilter) ([]storage.Flow, error) {
	found := []storage.Flow{}
	err := s.read(ctx, func() error {
		for _, e := range s.flows {
			if (len(f.IDs) == 0 || slices.Contains(f.IDs, e.ID)) &&
				(len(f.Kinds) == 0 || slices.Contains(f.Kinds, e.Kind)) && (!f.Open || !e.Over()) &&
				(f.Root.IsZero() || f.Root == e.RootID) {
				found = append(found, e.locked())
			}
		}
		return nil
	})
	slices.SortFunc(found, func(a, b storage.Flow) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), compareIDs(b.ID, a.ID))
	})
	return limited(found, f.Limit), err
}

// Callbacks implements [storage.Reader].
func (s *Store) Callbacks(ctx context.Context, flow storage.ID) (found []storage.Callback, err error) {
	err = s.read(ctx, func() (err error) {
		if f := s.flows[flow]; f != nil {
			found, err = storage.DecodeCallbacks(f.callbacks)
		}
		return err
	})
	return found, err
}

// Edges implements [storage.Reader].
func (s *Store) Edges(ctx context.Context, flow storage.ID) ([]storage.Edge, error) {
	found := []storage.Edge{}
	err := s.read(ctx, func() error {
		if f := s.flows[flow]; f != nil {
			found = append(found, f.edges...)
		}
		return nil
	})
	return found, err
}

// Workers implements [storage.Reader].
func (s *Store) Workers(ctx context.Context, ids ...storage.ID) ([]storage.Worker, error) {
	found := []storage.Worker{}
	err := s.read(ctx, func() error {
		for id, w := range s.workers {
			if w.LeftAt.IsZero() || slices.Contains(ids, id) {
				found = append(found, copiedWorker(w))
			}
		}
		return nil
	})
	slices.SortFunc(found, func(a, b storage.Worker) int {
		return cmp.Or(a.JoinedAt.Compare(b.JoinedAt), compareIDs(a.ID, b.ID))
	})
	return found, err
}

// Locks implements [storage.Reader].
func (s *Store) Locks(ctx context.Context) ([]storage.LockState, error) {
	found := []storage.LockState{}
	err := s.read(ctx, func() error {
		for _, l := range s.locks {
			found = append(found, s.completed(l))
		}
		return nil
	})
	slices.SortFunc(found, func(a, b storage.LockState) int { return cmp.Compare(a.Name, b.Name) })
	return found, err
}

// Counts implements [storage.Reader].
func (s *Store) Counts(ctx context.Context) ([]storage.Count, error) {
	sums := map[storage.Count]int64{} // keyed by a Count without N
	err := s.read(ctx, func() error {
		for _, e := range s.rows {
			sums[storage.Count{Queue: e.Queue, State: e.State}]++
		}
		return nil
	})
	found := make([]storage.Count, 0, len(sums))
	for c, n := range sums {
		c.N = n
		found = append(found, c)
	}
	slices.SortFunc(found, func(a, b storage.Count) int {
		return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.State, b.State))
	})
	return found, err
}

// Stats implements [storage.Reader].
func (s *Store) Stats(ctx context.Context, f storage.StatsFilter) ([]storage.Stat, error) {
	found := []storage.Stat{}
	err := s.read(ctx, func() error {
		for key, st := range s.stats {
			if f.Wants(&st, key.queue) && (f.Since.IsZero() || !st.Minute.Before(f.Since)) && (f.Until.IsZero() || st.Minute.Before(f.Until)) {
				found = append(found, st)
			}
		}
		return nil
	})
	return f.Summed(found), err
}

// Audit implements [storage.Reader].
func (s *Store) Audit(ctx context.Context, f storage.AuditFilter) ([]storage.AuditEntry, error) {
	found := []storage.AuditEntry{}
	err := s.read(ctx, func() error {
		for _, a := range slices.Backward(s.audit) {
			if strings.Contains(a.Target, f.Target) {
				found = append(found, a)
			}
		}
		return nil
	})
	slices.SortStableFunc(found, func(a, b storage.AuditEntry) int { return b.At.Compare(a.At) })
	return limited(found, f.Limit), err
}

// limited cuts a listing; 0 means the default.
func limited[T any](all []T, limit int) []T {
	return all[:min(len(all), cmp.Or(limit, defaultLimit))]
}
