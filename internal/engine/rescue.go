package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/gosequencer/sequencer/internal/process"
	"github.com/gosequencer/sequencer/storage"
)

// rescueBatch bounds how many executions one step of a rescue takes over.
const rescueBatch = 500

// Rescued is an execution as it was found, and what became of it.
type Rescued struct {
	Row     storage.Execution
	Outcome storage.Outcome
}

// Rescue takes over what dead workers held and records what becomes of it, as
// judge decides (it gets the row as it was found). A worker of this machine whose
// process is gone is dead at once; others when the store can prove it. It
// returns the executions it settled, and who of the workers' processes live and can be
// watched from here.
func Rescue(ctx context.Context, store storage.Store, worker storage.ID, judge func(storage.Execution) storage.Outcome) ([]Rescued, Neighbours, error) {
	dead, near, err := gone(ctx, store)
	if err != nil {
		return nil, near, err
	}
	var all []Rescued
	for {
		rows, err := store.Rescue(ctx, storage.RescueRequest{Worker: worker, Dead: dead, Limit: rescueBatch})
		if err != nil {
			return all, near, fmt.Errorf("rescuing the work of dead workers: %w", err)
		}
		if len(rows) > 0 {
			outcomes := make([]storage.Outcome, len(rows))
			for i, row := range rows {
				outcomes[i] = judge(row)
			}
			done, err := store.Finish(ctx, storage.FinishRequest{Worker: worker, Outcomes: outcomes})
			if err != nil {
				return all, near, fmt.Errorf("recording lost attempts: %w", err)
			}
			for i, row := range rows {
				if became := done.Became(i, &outcomes[i]); became != nil {
					all = append(all, Rescued{row, *became})
				}
			}
		}
		if len(rows) < rescueBatch {
			return all, near, nil
		}
	}
}

// Neighbours are the processes of other workers that can be seen from here.
type Neighbours struct {
	self process.Identity
	list []process.Identity
}

// Died reports whether one of them is gone since.
func (n Neighbours) Died() bool { return slices.ContainsFunc(n.list, n.self.Gone) }

// gone lists workers whose process can be seen to be dead from here, and the
// processes of those that can be seen to live.
func gone(ctx context.Context, store storage.Store) ([]storage.ID, Neighbours, error) {
	near := Neighbours{self: process.Self()}
	workers, err := store.Workers(ctx)
	if err != nil {
		return nil, near, err
	}
	var dead []storage.ID
	for _, w := range workers {
		at := process.Identity{Hostname: w.Hostname, Boot: w.Boot, PID: w.PID, Start: w.PIDStart}
		switch {
		case near.self.Gone(at):
			dead = append(dead, w.ID)
		case near.self.Sees(at) && at.PID != near.self.PID:
			near.list = append(near.list, at)
		}
	}
	return dead, near, nil
}
