package engine

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/internal/process"
	"github.com/gosequencer/sequencer/storage"
)

// rescueBatch bounds how many executions one step of a rescue takes over.
const rescueBatch = 500

// Rescue takes over what dead workers held and records what becomes of it, as
// judge decides (it gets the row as it was found). A worker of this machine whose
// process is gone is dead at once; others when the store can prove it. It
// returns the executions it settled.
func Rescue(ctx context.Context, store storage.Store, worker storage.ID, judge func(storage.Execution) storage.Outcome) ([]storage.Execution, error) {
	dead, err := gone(ctx, store)
	if err != nil {
		return nil, err
	}
	var all []storage.Execution
	for {
		rows, err := store.Rescue(ctx, storage.RescueRequest{Worker: worker, Dead: dead, Limit: rescueBatch})
		if err != nil {
			return all, fmt.Errorf("rescuing the work of dead workers: %w", err)
		}
		if len(rows) > 0 {
			outcomes := make([]storage.Outcome, len(rows))
			for i, row := range rows {
				outcomes[i] = judge(row)
			}
			if _, err := store.Finish(ctx, storage.FinishRequest{Worker: worker, Outcomes: outcomes}); err != nil {
				return all, fmt.Errorf("recording lost attempts: %w", err)
			}
			all = append(all, rows...)
		}
		if len(rows) < rescueBatch {
			return all, nil
		}
	}
}

// gone lists workers whose process can be seen to be dead from here.
func gone(ctx context.Context, store storage.Store) ([]storage.ID, error) {
	workers, err := store.Workers(ctx)
	if err != nil {
		return nil, err
	}
	self := process.Self()
	var dead []storage.ID
	for _, w := range workers {
		if self.Gone(process.Identity{Hostname: w.Hostname, Boot: w.Boot, PID: w.PID, Start: w.PIDStart}) {
			dead = append(dead, w.ID)
		}
	}
	return dead, nil
}
