package engine_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer/internal/engine"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

var (
	errShutdown  = errors.New("shutdown")
	errCancelled = errors.New("cancelled")
	quiet        = slog.New(slog.NewTextHandler(io.Discard, nil))
)

// counted counts the writes a pool makes.
type counted struct {
	storage.Store
	writes atomic.Int32
}

func (c *counted) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	c.writes.Add(1)
	time.Sleep(time.Millisecond) // sleep: inside a bubble, a write takes time
	return c.Store.Finish(ctx, r)
}

// serve enqueues n executions and runs a pool of so many slots over them until
// all are done or ctx ends.
func serve(ctx context.Context, t *testing.T, store storage.Store, n, slots int, fn func(ctx context.Context, e storage.Execution) storage.State) error {
	t.Helper()
	w := storage.Worker{ID: storage.NewID(), Lease: 30 * time.Second}
	return engine.Hold(ctx, store, w, quiet, errCancelled, func(ctx context.Context, l *engine.Lease) error {
		rows := make([]storage.Execution, n)
		for i := range rows {
			rows[i] = storage.Execution{ID: storage.NewID(), Name: "op", Kind: storage.Unlisted, Queue: "q", Priority: 2, OnLoss: storage.LossRetry}
		}
		if _, err := store.Enqueue(ctx, storage.EnqueueRequest{Executions: rows}); err != nil {
			return err
		}
		var done atomic.Int32
		p := &engine.Pool{
			Store: store, Lease: l, Queues: []string{"q"}, Slots: slots,
			Poll: time.Second, Grace: 5 * time.Second, Linger: time.Second, Shutdown: errShutdown,
			Attempt: func(ctx context.Context, _ context.CancelCauseFunc, e *storage.Execution, _ *engine.Hand, _ engine.Next) engine.Verdict {
				state := fn(ctx, *e)
				return engine.Verdict{
					Outcome: storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: state, Excuse: state == storage.Pending},
					After: func(*storage.Outcome) {
						if state != storage.Pending {
							done.Add(1)
						}
					},
				}
			},
			Over: func(context.Context, engine.Found) (bool, error) { return int(done.Load()) == n, nil },
		}
		return p.Run(ctx, storage.Claimed{})
	})
}

func TestOutcomesThatArriveDuringAWriteShareTheNextOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &counted{Store: memory.New()}
		const n = 1000
		if err := serve(t.Context(), t, store, n, 100, func(context.Context, storage.Execution) storage.State { return storage.Completed }); err != nil {
			t.Fatal(err)
		}
		if writes := store.writes.Load(); writes > n/20 {
			t.Errorf("%d executions took %d writes; batching is lost", n, writes)
		}
	})
}

func TestAPoolNeverRunsMoreThanItsSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		err := serve(t.Context(), t, memory.New(), 50, 3, func(context.Context, storage.Execution) storage.State {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Second) // sleep: inside a bubble
			running.Add(-1)
			return storage.Completed
		})
		if err != nil || most.Load() != 3 {
			t.Errorf("at most %d ran at a time, %v; want 3", most.Load(), err)
		}
	})
}

func TestAnEndedContextGivesAttemptsTheGracePeriodAndThenACause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		err := serve(ctx, t, store, 2, 1, func(ctx context.Context, _ storage.Execution) storage.State {
			stop()
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), errShutdown) {
				t.Errorf("cause = %v, want the shutdown", context.Cause(ctx))
			}
			return storage.Pending
		})
		if err != nil || time.Since(began) != 5*time.Second {
			t.Errorf("ended after %s with %v, want the grace period and no error", time.Since(began), err)
		}
		rows, _ := store.Executions(t.Context(), storage.Filter{States: []storage.State{storage.Pending}})
		if len(rows) != 2 || rows[0].Attempts()+rows[1].Attempts() != 0 {
			t.Errorf("S6.5: rows = %+v, want both pending with no attempt spent", rows)
		}
	})
}

func TestAnAttemptThatDoesNotStopIsAbandoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		err := serve(ctx, t, memory.New(), 1, 1, func(context.Context, storage.Execution) storage.State {
			stop()
			time.Sleep(time.Minute) // sleep: inside a bubble
			return storage.Completed
		})
		if err == nil {
			t.Error("a pool that abandoned an attempt reported success")
		}
		time.Sleep(time.Minute) // sleep: inside a bubble, lets the attempt end
	})
}

func TestLosingTheLeaseEndsAttemptsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		err := serve(t.Context(), t, store, 1, 1, func(ctx context.Context, e storage.Execution) storage.State {
			if err := store.Leave(ctx, e.WorkerID); err != nil { // somebody declared this worker dead
				t.Error(err)
			}
			<-ctx.Done()
			return storage.Completed
		})
		if !errors.Is(err, storage.ErrLeaseLost) {
			t.Errorf("err = %v, want ErrLeaseLost", err)
		}
	})
}

func TestAnAttemptThatIsToldOfALostLeaseEndsThePoolAndRecordsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		suspects(t, store, 1, 1, 0)
		w := storage.Worker{ID: storage.NewID(), Lease: 30 * time.Second}
		told := false
		err := engine.Hold(t.Context(), store, w, quiet, errCancelled, func(ctx context.Context, l *engine.Lease) error {
			p := &engine.Pool{
				Store: store, Lease: l, Queues: []string{"q"}, Slots: 4, Poll: time.Second, Shutdown: errShutdown,
				Attempt: func(context.Context, context.CancelCauseFunc, *storage.Execution, *engine.Hand, engine.Next) engine.Verdict {
					return engine.Verdict{Lost: storage.ErrLeaseLost, After: func(became *storage.Outcome) { told = became == nil }}
				},
				Over: func(context.Context, engine.Found) (bool, error) { return false, nil },
			}
			return p.Run(ctx, storage.Claimed{})
		})
		if !errors.Is(err, storage.ErrLeaseLost) || !told {
			t.Errorf("the pool ended with %v, told of a void outcome: %v", err, told)
		}
		rows, err := store.Executions(t.Context(), storage.Filter{States: []storage.State{storage.Running}})
		if err != nil || len(rows) != 1 {
			t.Errorf("%d rows are left to be rescued, %v; want 1", len(rows), err)
		}
	})
}

func TestACancelledExecutionHearsOfItWithTheNextRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		err := serve(t.Context(), t, store, 1, 1, func(ctx context.Context, e storage.Execution) storage.State {
			if _, err := store.Operate(ctx, storage.Order{Action: storage.ActCancel, IDs: []storage.ID{e.ID}, Actor: "test"}); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), errCancelled) {
				t.Errorf("cause = %v", context.Cause(ctx))
			}
			return storage.Cancelled
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// failing is a store whose server comes and goes.
type failing struct {
	storage.Store
	finish, renew atomic.Pointer[error]
	hangs         atomic.Bool // the next Renew does not answer
	lost          atomic.Bool // the next Finish is carried out and its answer lost…
	blind         atomic.Bool // …and the question that follows fails
}

var errGone = errors.New("connection reset")

func (f *failing) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	if err := f.finish.Load(); err != nil && len(r.Outcomes) > 0 {
		return storage.Finished{}, *err
	}
	done, err := f.Store.Finish(ctx, r)
	if len(r.Outcomes) > 0 && f.lost.CompareAndSwap(true, false) {
		return storage.Finished{}, errGone
	}
	return done, err
}

func (f *failing) Executions(ctx context.Context, filter storage.Filter) ([]storage.Execution, error) {
	if f.blind.CompareAndSwap(true, false) {
		return nil, errGone
	}
	return f.Store.Executions(ctx, filter)
}

func (f *failing) Renew(ctx context.Context, r storage.RenewRequest) (storage.Renewed, error) {
	if f.hangs.CompareAndSwap(true, false) {
		<-ctx.Done()
		return storage.Renewed{}, ctx.Err()
	}
	if err := f.renew.Load(); err != nil {
		return storage.Renewed{}, *err
	}
	return f.Store.Renew(ctx, r)
}

func TestAnOutcomeOutlivesABrokenConnectionAndALostAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &failing{Store: memory.New()}
		store.lost.Store(true)
		runs := 0
		err := serve(t.Context(), t, store, 1, 1, func(context.Context, storage.Execution) storage.State {
			runs++
			store.finish.Store(&errGone)
			time.AfterFunc(10*time.Second, func() { store.finish.Store(nil) })
			return storage.Completed
		})
		if err != nil || runs != 1 {
			t.Errorf("ran %d times, %v; want once, recorded when the server is back", runs, err)
		}
	})
}

func TestALostAnswerDoesNotMakeThePoolTakeMoreThanItsSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &failing{Store: memory.New()}
		var runs, running, most atomic.Int32
		err := serve(t.Context(), t, store, 40, 4, func(context.Context, storage.Execution) storage.State {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Second) // sleep: inside a bubble
			if runs.Add(1)%5 == 1 {
				store.lost.Store(true)
			}
			running.Add(-1)
			return storage.Completed
		})
		if err != nil || runs.Load() != 40 || most.Load() != 4 {
			t.Errorf("%d attempts, at most %d at a time, %v; want 40 in 4 slots", runs.Load(), most.Load(), err)
		}
	})
}

func TestALostAnswerAndAQuestionThatFailsDisturbNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &failing{Store: memory.New()}
		var runs, cut atomic.Int32
		err := serve(t.Context(), t, store, 4, 2, func(ctx context.Context, _ storage.Execution) storage.State {
			if runs.Add(1) == 1 { // one ends while the other is in the middle of its work
				store.lost.Store(true)
				store.blind.Store(true)
				return storage.Completed
			}
			select {
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
				cut.Add(1)
			}
			return storage.Completed
		})
		if err != nil || runs.Load() != 4 || cut.Load() != 0 {
			t.Errorf("%d attempts, %d of them cut off, %v; want 4, none", runs.Load(), cut.Load(), err)
		}
	})
}

func TestRenewalsThatFailOrHangOnceDoNotCostTheLease(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ fails, hangs []time.Duration }{
		"Q2.15 fail": {fails: []time.Duration{9500 * time.Millisecond, 19500 * time.Millisecond, 29500 * time.Millisecond}},
		"Q2.15 hang": {hangs: []time.Duration{5 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &failing{Store: memory.New()}
				for _, at := range c.fails { // for a second, around when a renewal is due
					time.AfterFunc(at, func() { store.renew.Store(&errGone) })
					time.AfterFunc(at+time.Second, func() { store.renew.Store(nil) })
				}
				for _, at := range c.hangs {
					time.AfterFunc(at, func() { store.hangs.Store(true) })
				}
				err := serve(t.Context(), t, store, 1, 1, func(ctx context.Context, _ storage.Execution) storage.State {
					select {
					case <-ctx.Done(): // cut off: serve says why
					case <-time.After(time.Minute):
					}
					return storage.Completed
				})
				if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestAServerThatStaysAwayEndsThePoolWithTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &failing{Store: memory.New()}
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		err := serve(ctx, t, store, 1, 1, func(context.Context, storage.Execution) storage.State {
			store.finish.Store(&errGone)
			store.renew.Store(&errGone)
			stop()
			return storage.Completed
		})
		if took := time.Since(began); !errors.Is(err, storage.ErrLeaseLost) || took > 31*time.Second {
			t.Errorf("ended after %s with %v; want ErrLeaseLost within the lease of 30s", took, err)
		}
	})
}

// late keeps the answers of calls that only claim for a while.
type late struct{ storage.Store }

func (l late) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	done, err := l.Store.Finish(ctx, r)
	if len(r.Outcomes) == 0 {
		time.Sleep(time.Second) // sleep: inside a bubble
	}
	return done, err
}

// One call has claimed the last rows and its answer is under way when another one, which
// found nothing any more, is answered.
func TestAPoolIsNotQuietWhileAClaimIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := late{memory.New()}
		row := func() storage.Execution {
			return storage.Execution{ID: storage.NewID(), Name: "op", Kind: storage.Unlisted, Queue: "q", Priority: 2, OnLoss: storage.LossRetry}
		}
		enqueue := func(rows ...storage.Execution) {
			if _, err := store.Enqueue(t.Context(), storage.EnqueueRequest{Executions: rows}); err != nil {
				t.Error(err)
			}
		}
		first := row()
		enqueue(first)
		wake := make(chan struct{}, 1)
		w := storage.Worker{ID: storage.NewID(), Lease: 30 * time.Second}
		var done atomic.Int32
		err := engine.Hold(t.Context(), store, w, quiet, errCancelled, func(ctx context.Context, l *engine.Lease) error {
			p := &engine.Pool{
				Store: store, Lease: l, Queues: []string{"q"}, Slots: 5, Writes: 2, Wake: wake,
				Poll: time.Minute, Grace: time.Second, Linger: time.Second, Shutdown: errShutdown,
				Attempt: func(_ context.Context, _ context.CancelCauseFunc, e *storage.Execution, _ *engine.Hand, _ engine.Next) engine.Verdict {
					if done.Add(1); e.ID == first.ID {
						enqueue(row(), row())
						wake <- struct{}{}
						time.Sleep(time.Millisecond) // sleep: inside a bubble, and the claim for them is under way
					}
					return engine.Verdict{Outcome: storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed}}
				},
				Over: func(_ context.Context, found engine.Found) (bool, error) { return found.Quiet(), nil },
			}
			return p.Run(ctx, storage.Claimed{})
		})
		if err != nil || done.Load() != 3 {
			t.Errorf("%d of 3 were attempted before the pool took itself for quiet, %v", done.Load(), err)
		}
	})
}

// A claim that looked before a retry was put back is answered after the call that put it
// back: what it says of when to look again is out of date.
func TestARetryIsTakenInTimeWhenAClaimCrossesIt_Q1_28(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := late{memory.New()}
		row := storage.Execution{ID: storage.NewID(), Name: "op", Kind: storage.Unlisted, Queue: "q", Priority: 2, OnLoss: storage.LossRetry}
		later := row
		later.ID, later.DueAt = storage.NewID(), time.Now().Add(time.Hour)
		if _, err := store.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{row, later}}); err != nil {
			t.Fatal(err)
		}
		wake := make(chan struct{}, 1)
		var attempts atomic.Int32
		began := [3]time.Time{}
		w := storage.Worker{ID: storage.NewID(), Lease: 30 * time.Second}
		err := engine.Hold(t.Context(), store, w, quiet, errCancelled, func(ctx context.Context, l *engine.Lease) error {
			p := &engine.Pool{
				Store: store, Lease: l, Queues: []string{"q"}, Slots: 5, Writes: 2, Wake: wake,
				Poll: time.Minute, Grace: time.Second, Linger: time.Second, Shutdown: errShutdown,
				Attempt: func(_ context.Context, _ context.CancelCauseFunc, e *storage.Execution, _ *engine.Hand, _ engine.Next) engine.Verdict {
					o := storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed}
					n := attempts.Add(1)
					if began[n] = time.Now(); n == 1 {
						wake <- struct{}{}
						time.Sleep(time.Millisecond) // sleep: inside a bubble, and the claim that finds only what is due in an hour is under way
						o.State, o.Delay, o.Errors = storage.Pending, 10*time.Second, 1
					}
					return engine.Verdict{Outcome: o}
				},
				Over: func(_ context.Context, _ engine.Found) (bool, error) { return attempts.Load() == 2, nil },
			}
			return p.Run(ctx, storage.Claimed{})
		})
		if waited := began[2].Sub(began[1]); err != nil || waited > 11*time.Second {
			t.Errorf("the second attempt began %s after the first, want 10 s; %v", waited, err)
		}
	})
}

// The database ended one attempt's transaction for the sake of another, which had looked
// for more work before the first was put back, and is answered after it was.
func TestAPoolIsNotQuietWhenACommitLookedBeforeAnotherWasPutBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		row := func() storage.Execution {
			return storage.Execution{ID: storage.NewID(), Name: "op", Kind: storage.Unlisted, Queue: "q", Priority: 2, OnLoss: storage.LossRetry}
		}
		slow, victim := row(), row()
		if _, err := store.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{slow, victim}}); err != nil {
			t.Fatal(err)
		}
		w := storage.Worker{ID: storage.NewID(), Lease: 30 * time.Second}
		attempts := 0 // of the victim, one after the other
		err := engine.Hold(t.Context(), store, w, quiet, errCancelled, func(ctx context.Context, l *engine.Lease) error {
			p := &engine.Pool{
				Store: store, Lease: l, Queues: []string{"q"}, Slots: 2, Writes: 2,
				Poll: time.Minute, Grace: time.Second, Linger: time.Second, Shutdown: errShutdown,
				Attempt: func(ctx context.Context, _ context.CancelCauseFunc, e *storage.Execution, _ *engine.Hand, next engine.Next) engine.Verdict {
					o := storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed}
					if e.ID == victim.ID {
						if attempts++; attempts == 1 {
							time.Sleep(time.Millisecond) // sleep: inside a bubble, and the other has looked
							next(false)                  // and the database undoes it
							o.State, o.Excuse = storage.Pending, true
						}
						return engine.Verdict{Outcome: o}
					}
					done, err := store.Finish(ctx, storage.FinishRequest{Worker: w.ID, Outcomes: []storage.Outcome{o}, Claim: next(false)})
					if err != nil {
						t.Error(err)
					}
					time.Sleep(time.Second) // sleep: inside a bubble, the answer is under way
					return engine.Verdict{Outcome: o, Finished: &done}
				},
				Over: func(_ context.Context, found engine.Found) (bool, error) { return found.Quiet(), nil },
			}
			return p.Run(ctx, storage.Claimed{})
		})
		if err != nil || attempts != 2 {
			t.Errorf("%d attempts of what was put back, want 2; %v", attempts, err)
		}
	})
}
