package sqlite

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// By primary key.
const (
	insertPause = `INSERT INTO sequencer_pauses (kind, name, at, actor, reason) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`
	liftPause   = `DELETE FROM sequencer_pauses WHERE kind = ? AND name = ?`
)

// pause carries out ActPause and ActResume. What changes nothing is not audited.
func pause(ctx context.Context, t *txn, now time.Time, o storage.Order) error {
	p := o.Pause
	if err := p.Validate(); err != nil {
		return err
	}
	var n int
	var err error
	if o.Action == storage.ActPause {
		n, err = t.exec(ctx, insertPause, string(p.Kind), p.Name, now.UnixMicro(), o.Actor, o.Reason)
	} else {
		n, err = t.exec(ctx, liftPause, string(p.Kind), p.Name)
	}
	if err != nil || n == 0 {
		return err
	}
	if o.Action == storage.ActResume {
		t.arrivals.Lifted(p)
	}
	return audit(ctx, t, now, o.Actor, string(o.Action), p.Target(), 1, o.Reason)
}

// The whole table, in the order of its key.
const (
	allPauses     = `SELECT kind, name, at, actor, reason FROM sequencer_pauses ORDER BY kind, name`
	claimedPauses = `SELECT kind, name FROM sequencer_pauses WHERE kind IN ('operation', 'queue') ORDER BY kind, name`
)

// heed takes out of a claim what is paused, and returns the operations that are.
func heed(ctx context.Context, t *txn, r *storage.ClaimRequest) (names []string, err error) {
	var queues []string
	err = t.each(ctx, func(rows *sql.Rows) error {
		var kind, name string
		err := rows.Scan(&kind, &name)
		if storage.PauseKind(kind) == storage.PauseQueue {
			queues = append(queues, name)
		} else {
			names = append(names, name)
		}
		return err
	}, claimedPauses)
	r.Queues = without(r.Queues, queues)
	r.Names = without(r.Names, names)
	return names, err
}

// without returns a list that lacks what drop has.
func without(list, drop []string) []string {
	if len(drop) == 0 {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(drop, s) })
}

// Pauses lists what is paused, by kind, then name.
func (s *Store) Pauses(ctx context.Context) ([]storage.Pause, error) {
	list := []storage.Pause{}
	err := s.read(ctx, func(rows *sql.Rows) error {
		var p storage.Pause
		err := rows.Scan((*string)(&p.Kind), &p.Name, (*instantColumn)(&p.At), &p.Actor, &p.Reason)
		list = append(list, p)
		return err
	}, allPauses)
	return list, s.fail("list pauses", err)
}
