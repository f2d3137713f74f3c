package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// Resolution is what a person found out about an interrupted execution.
type Resolution string

const (
	ResolveCompleted Resolution = "completed" // it did happen: it counts as done
	ResolveFailed    Resolution = "failed"    // it did not: the next run offers it again
)

// Resolve settles an interrupted execution, named by operation, migration or id,
// and releases the next run. reason goes into the audit log.
func (s *Sequencer) Resolve(ctx context.Context, nameOrID string, as Resolution, reason string) error {
	action := storage.ActComplete
	switch as {
	case ResolveCompleted:
	case ResolveFailed:
		action = storage.ActFail
	default:
		return fmt.Errorf("resolve %s as %q: want %q or %q", nameOrID, as, ResolveCompleted, ResolveFailed)
	}
	return s.hold(ctx, "resolve", func(ctx context.Context, sess session) error {
		if _, err := s.rescue(ctx, sess); err != nil { // its process may have died a moment ago
			return err
		}
		row, err := s.find(ctx, nameOrID)
		if err != nil {
			return err
		}
		if _, err := s.store.Operate(ctx, storage.Order{
			Action: action, IDs: []storage.ID{row.ID}, Actor: s.cfg.Actor, Reason: reason,
		}); err != nil {
			return fmt.Errorf("resolving %s: %w", row.Name, err)
		}
		return nil
	})
}

// Cancel withdraws an execution, named by operation (its newest that is not over)
// or id: one that waits will not start, one that runs is asked to stop. reason goes
// into the audit log.
func (s *Sequencer) Cancel(ctx context.Context, nameOrID, reason string) error {
	row, err := s.find(ctx, nameOrID)
	if err != nil {
		return err
	}
	if row, err = s.newestIn(ctx, row, nameOrID, storage.Pending, storage.Running); err != nil {
		return err
	}
	rows, err := s.store.Operate(ctx, storage.Order{
		Action: storage.ActCancel, IDs: []storage.ID{row.ID}, Actor: s.cfg.Actor, Reason: reason,
	})
	if err != nil {
		return fmt.Errorf("cancelling %s: %w", row.Name, err)
	}
	s.freeAllElsewhere(ctx, rows)
	return nil
}

// Unlock takes the run lock from its holder, for a holder that cannot be proved
// dead and is known to be. A run that still lives is fenced off where another
// takes its work, but nothing keeps it from executing: be sure.
func (s *Sequencer) Unlock(ctx context.Context, reason string) (*storage.LockState, error) {
	locks, err := s.store.Locks(ctx)
	if err != nil && !noLedger(err) {
		return nil, err
	}
	for _, l := range locks {
		if l.Name == RunLock {
			_, err := s.store.Operate(ctx, storage.Order{Action: storage.ActUnlock, Lock: RunLock, Actor: s.cfg.Actor, Reason: reason})
			return &l, err
		}
	}
	return nil, nil
}

// find returns the execution with an id or a unique prefix of one (at least 8
// characters), or the newest of an operation or migration.
func (s *Sequencer) find(ctx context.Context, nameOrID string) (storage.Execution, error) {
	newest, err := s.newestByName(ctx)
	if err != nil {
		return storage.Execution{}, err
	}
	if row, ok := newest[s.present(nameOrID)]; ok { // the effective one: not cancelled since, not skipped elsewhere
		return s.row(ctx, row.ID)
	}
	filters := []storage.Filter{{Name: s.present(nameOrID), Limit: 1}}
	if reg, ok := s.reg.lookup(nameOrID); ok {
		for _, former := range reg.former {
			filters = append(filters, storage.Filter{Name: former, Limit: 1})
		}
	}
	if id := strings.ToLower(nameOrID); len(id) >= 8 && isIDPrefix(id) {
		filters = append(filters, storage.Filter{IDPrefix: id, Limit: 2})
	}
	for _, f := range filters {
		if f.Name != "" {
			f.Kinds = []storage.Kind{storage.Ordered, storage.Unlisted, storage.Migration}
		}
		rows, err := s.store.Executions(ctx, f)
		if err != nil {
			return storage.Execution{}, err
		}
		switch {
		case len(rows) > 1:
			return storage.Execution{}, fmt.Errorf("id %s is not unique: give more of it", nameOrID)
		case len(rows) == 1:
			return rows[0], nil
		}
	}
	if _, ok := s.reg.lookup(nameOrID); ok {
		return storage.Execution{}, fmt.Errorf("%s: %w: it never ran", nameOrID, storage.ErrNotFound)
	}
	return storage.Execution{}, errors.Join(notFound(s.reg, nameOrID), errors.New("and no execution has it as its id"))
}

// newestIn is row, unless it was asked for by the name of its operation and is in
// none of the states: then the newest that is, if there is one. What was done since
// does not hide what waits, or failed.
func (s *Sequencer) newestIn(ctx context.Context, row storage.Execution, asked string, states ...storage.State) (storage.Execution, error) {
	if slices.Contains(states, row.State) || row.Name != s.present(asked) {
		return row, nil
	}
	rows, err := s.store.Executions(ctx, storage.Filter{Name: row.Name, Kinds: []storage.Kind{row.Kind}, States: states, Limit: 1})
	return append(rows, row)[0], err
}

func isIDPrefix(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') && r != '-' {
			return false
		}
	}
	return true
}
