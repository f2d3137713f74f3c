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
// all of a busy worker's are clean ends of first deliveries.
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
		if clean(o) {
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

func all(outcomes []storage.Outcome) []int {
	places := make([]int, len(outcomes))
	for i := range places {
		places[i] = i
	}
	return places
}

// Rows by primary key, under the same fence as one row. What a clean end cannot
// change is not set, so that its indexes stay untouched.
const finishAlike = `
UPDATE sequencer_executions
SET state = ?, finished_at = ?, holds_key = 0, cancel_asked = 0, errors = ?, losses = ?
WHERE id IN (SELECT unhex(value) FROM json_each(?)) AND state = 'running' AND worker_id = ? AND delivery = ?
RETURNING id`

// applyAlike writes the outcomes at the given places and what ended of them.
func applyAlike(ctx context.Context, t *txn, now time.Time, r storage.FinishRequest, like likeness, at []int, ended []settle.Ending, counted statistics) error {
	place := make(map[storage.ID]int, len(at))
	ids := make([]storage.ID, len(at))
	for i, p := range at {
		ids[i] = r.Outcomes[p].ID
		place[ids[i]] = p
	}
	var id storage.ID
	dest := []any{(*idColumn)(&id)}
	return t.each(ctx, func(rows *sql.Rows) error {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		o := &r.Outcomes[place[id]]
		ended[place[id]] = endingOf(o)
		counted.add(o.Of.Kind, o.Of.Queue, o.Of.Name, string(o.State), o.Ran, now.Add(-o.Ran).Sub(o.Of.DueAt))
		return nil
	}, finishAlike, string(like.state), now.UnixMicro(), like.errors, like.losses, idsOf(ids), r.Worker[:], like.delivery)
}
