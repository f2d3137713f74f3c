package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// enoughAlike is how many outcomes it takes for one statement over all of them to
// be cheaper than one for each.
const enoughAlike = 4

// likeness is what outcomes have in common that one statement can write: nearly
// all of a busy worker's are clean ends of first deliveries, and those of one that
// meets what it does not know are rows to be parked.
type likeness struct {
	state                    storage.State
	delivery, errors, losses int
}

// sortOut parts outcomes, given by their places, into sets that are alike and
// those that are written one by one. Two outcomes of one execution depend on
// their order, which sets do not keep.
func sortOut(outcomes []storage.Outcome) (alike map[likeness][]int, single []int) {
	if len(outcomes) < enoughAlike {
		return nil, all(outcomes)
	}
	alike = map[likeness][]int{}
	seen := make(map[storage.ID]bool, len(outcomes))
	for i := range outcomes {
		o := &outcomes[i]
		if seen[o.ID] {
			return nil, all(outcomes)
		}
		seen[o.ID] = true
		if clean(o) || parks(o) {
			like := likeness{o.State, o.Delivery, o.Errors, o.Losses}
			alike[like] = append(alike[like], i)
		} else {
			single = append(single, i)
		}
	}
	for like, at := range alike {
		if len(at) < enoughAlike {
			single = append(single, at...)
			delete(alike, like)
		}
	}
	return alike, single
}

// parks reports an outcome that puts a row aside, at no cost to it, and says nothing
// else.
func parks(o *storage.Outcome) bool {
	return o.State == storage.Pending && o.Park && o.Excuse && o.Delay == 0 && !o.Rewind && o.Failure == nil && o.Progress == nil &&
		o.Result == nil && o.Reason == "" && !o.ForNow && o.Env == ""
}

func all(outcomes []storage.Outcome) []int {
	places := make([]int, len(outcomes))
	for i := range places {
		places[i] = i
	}
	return places
}

// Rows by primary key, under the same fence as one row. What a clean end cannot
// change is not set, so that its indexes stay untouched.
const (
	alikeRows = `
WHERE id IN (SELECT unhex(value) FROM json_each(?)) AND state = 'running' AND worker_id = ? AND delivery = ?`
	finishAlike = `
UPDATE sequencer_executions
SET state = ?, finished_at = ?, holds_key = 0, cancel_asked = 0, errors = ?, losses = ?` + alikeRows
	parkAlike = `
UPDATE sequencer_executions
SET state = ?, due_at = ?, parked = 1, excused = excused + 1, worker_id = iif(queue >= '@' AND queue < 'A', worker_id, NULL),
	reason = '', for_now = 0, environment = '', errors = ?, losses = ?` + alikeRows + ` AND (cancel_asked = 0 OR kind = 'hook')`
	naming = ` RETURNING id`
)

// applyAlike writes the outcomes at the given places and what ended of them.
func applyAlike(ctx context.Context, t *txn, now time.Time, r storage.FinishRequest, like likeness, at []int, ended []settle.Ending, counted statistics) error {
	ids := make([]storage.ID, len(at))
	for i, p := range at {
		ids[i] = r.Outcomes[p].ID
	}
	args := []any{string(like.state), now.UnixMicro(), like.errors, like.losses, idsOf(ids), r.Worker[:], like.delivery}
	statement, written := finishAlike, finishAlike+naming
	if like.state == storage.Pending {
		statement, written = parkAlike, parkAlike+naming
	}
	note := func(p int) {
		o := &r.Outcomes[p]
		if o.State == storage.Pending {
			ended[p].State = o.State
			return
		}
		ended[p] = endingOf(o)
		counted.add(o.Of.Kind, o.Of.Queue, o.Of.Name, string(o.State), o, now.Add(-o.Ran).Sub(o.Of.DueAt))
	}
	if _, err := t.exec(ctx, `SAVEPOINT alike`); err != nil {
		return err
	}
	n, err := t.exec(ctx, statement, args...)
	if err != nil {
		return err
	}
	if n == len(ids) {
		for _, p := range at {
			note(p)
		}
	} else { // the fence refused some, or some were asked to stop: once more, asking which
		if _, err := t.exec(ctx, `ROLLBACK TO alike`); err != nil {
			return err
		}
		place := make(map[storage.ID]int, len(at))
		for i, p := range at {
			place[ids[i]] = p
		}
		var id storage.ID
		dest := []any{(*idColumn)(&id)}
		err := t.each(ctx, func(rows *sql.Rows) error {
			err := rows.Scan(dest...)
			note(place[id])
			return err
		}, written, args...)
		if err != nil {
			return err
		}
		for _, p := range at {
			if like.state == storage.Pending && ended[p].State == "" {
				if err := apply(ctx, t, now, r.Worker, &r.Outcomes[p], &ended[p], counted); err != nil {
					return err
				}
			}
		}
	}
	_, err = t.exec(ctx, `RELEASE alike`)
	return err
}
