package engine_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer/internal/engine"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// suspects fills a ledger with rows, of which the first few have lost workers.
func suspects(t *testing.T, store storage.Store, n, lost, losses int) {
	t.Helper()
	rows := make([]storage.Execution, n)
	for i := range rows {
		rows[i] = storage.Execution{ID: storage.NewID(), Name: "op", Kind: storage.Unlisted, Queue: "q", Priority: 2, OnLoss: storage.LossRetry}
	}
	if _, err := store.Enqueue(t.Context(), storage.EnqueueRequest{Executions: rows}); err != nil {
		t.Fatal(err)
	}
	w := storage.Worker{ID: storage.NewID(), Lease: time.Minute}
	if err := store.Join(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	claimed, err := store.Claim(t.Context(), storage.ClaimRequest{Worker: w.ID, Queues: []string{"q"}, Limit: lost})
	if err != nil {
		t.Fatal(err)
	}
	var outcomes []storage.Outcome
	for _, e := range claimed.Executions {
		outcomes = append(outcomes, storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Pending, Losses: losses})
	}
	if _, err := store.Finish(t.Context(), storage.FinishRequest{Worker: w.ID, Outcomes: outcomes}); err != nil {
		t.Fatal(err)
	}
	if err := store.Leave(t.Context(), w.ID); err != nil {
		t.Fatal(err)
	}
}

// company tells which attempts had which others beside them.
type company struct {
	mu      sync.Mutex // guards the rest
	running map[storage.ID]int
	most    int  // of those above suspicion, at a time
	met     bool // a suspect had somebody beside it
	done    int
}

func (c *company) attempt(e *storage.Execution, work time.Duration) {
	c.enter(e)
	time.Sleep(work) // sleep: inside a bubble
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, e.ID)
	c.done++
}

func (c *company) enter(e *storage.Execution) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[e.ID] = e.Losses
	c.most = max(c.most, len(c.running))
	for _, losses := range c.running {
		c.met = c.met || losses >= 2 && len(c.running) > 1
	}
}

// serveSuspects runs a pool over the ledger until so many attempts were made, or ctx ends.
func serveSuspects(ctx context.Context, store storage.Store, suspect, until int, c *company) error {
	w := storage.Worker{ID: storage.NewID(), Lease: 30 * time.Second}
	return engine.Hold(ctx, store, w, quiet, errCancelled, func(ctx context.Context, l *engine.Lease) error {
		p := &engine.Pool{
			Store: store, Lease: l, Queues: []string{"q"}, Slots: 4, Suspect: suspect, Writes: 2,
			Poll: time.Second, Grace: 5 * time.Second, Linger: time.Second, Shutdown: errShutdown,
			Attempt: func(_ context.Context, _ context.CancelCauseFunc, e *storage.Execution, _ *engine.Hand, _ engine.Next) engine.Verdict {
				c.attempt(e, time.Second)
				return engine.Verdict{Outcome: storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed}}
			},
			Over: func(_ context.Context, found engine.Found) (bool, error) {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.done == until && found.Running == 0, nil
			},
		}
		return p.Run(ctx, storage.Claimed{})
	})
}

func TestWhatLostWorkersInARowIsAttemptedAlone_Q2_17(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		suspect, losses int
		alone           bool
	}{
		"a suspect":               {2, 2, true},
		"control: lost only once": {2, 1, false},
		"control: nobody is one":  {0, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := memory.New()
				suspects(t, store, 20, 3, c.losses)
				at := &company{running: map[storage.ID]int{}}
				if err := serveSuspects(t.Context(), store, c.suspect, 20, at); err != nil {
					t.Fatal(err)
				}
				if c.losses == 2 && at.met == c.alone || at.most != 4 {
					t.Errorf("a suspect met others: %v, want %v; at most %d at a time, want 4", at.met, !c.alone, at.most)
				}
				rows, err := store.Executions(t.Context(), storage.Filter{})
				if err != nil {
					t.Fatal(err)
				}
				for _, row := range rows {
					if row.State != storage.Completed || row.Attempts() > 2 {
						t.Errorf("%s after %d attempts", row.State, row.Attempts())
					}
				}
			})
		})
	}
}

func TestASuspectThatWaitsForItsTurnGoesBackWhenThePoolStops_Q10_15(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		suspects(t, store, 4, 1, 2)
		ctx, stop := context.WithCancel(t.Context())
		at := &company{running: map[storage.ID]int{}}
		time.AfterFunc(500*time.Millisecond, stop)
		if err := serveSuspects(ctx, store, 2, -1, at); err != nil {
			t.Fatal(err)
		}
		rows, err := store.Executions(t.Context(), storage.Filter{States: []storage.State{storage.Pending}})
		if err != nil || len(rows) != 1 {
			t.Fatalf("%d rows are pending, %v; want the suspect alone", len(rows), err)
		}
		if e := rows[0]; e.Losses != 2 || e.Attempts() != 1 {
			t.Errorf("it has %d losses and %d attempts, want 2 and 1 as before", e.Losses, e.Attempts())
		}
	})
}
