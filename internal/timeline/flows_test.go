package timeline_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/faultstore"
	"github.com/gosequencer/sequencer/storage"
)

// flowTimeline is one of Q13 about batches and chains. Its operations note their names;
// those that begin with "bad" fail until they are mended.
type flowTimeline struct {
	flow   func(d sequencer.Dispatcher) *sequencer.Batch
	chain  func(d sequencer.Dispatcher) *sequencer.Chain
	story  []string // what ran, in order: one at a time does
	status string   // of the flow, as stands puts it
	states string   // of the executions, by name
	again  *flowTimeline
}

var flowTimelines = map[string]flowTimeline{
	"Q13.8 a failure cancels what has not begun": {
		flow: func(d sequencer.Dispatcher) *sequencer.Batch {
			return d.Batch(named("a"), named("bad"), named("c")).Then(named("then")).Catch(named("catch")).Finally(named("finally"))
		},
		story:  []string{"a", "bad", "catch of bad: boom", "finally"},
		status: "failed, 3 members: 1 completed, 1 failed, 1 cancelled; generation 1",
		states: "a completed, bad failed, c cancelled, catch completed, finally completed",
	},
	"Q13.9 others go on, and a retry is a generation": {
		flow: func(d sequencer.Dispatcher) *sequencer.Batch {
			return d.Batch(named("a"), named("bad"), named("c")).AllowFailures().Then(named("then")).Catch(named("catch")).Finally(named("finally"))
		},
		story:  []string{"a", "bad", "c", "catch of bad: boom", "finally"},
		status: "failed, 3 members: 2 completed, 1 failed; generation 1",
		states: "a completed, bad failed, c completed, catch completed, finally completed",
		again: &flowTimeline{
			story:  []string{"bad", "then", "finally"},
			status: "completed, 3 members: 3 completed; generation 2",
			states: "a completed, bad completed, c completed, catch completed, finally completed, finally completed, then completed",
		},
	},
	"Q13.10 a chain in a batch": {
		flow: func(d sequencer.Dispatcher) *sequencer.Batch {
			return d.Batch(d.Chain(named("bad"), named("b"), named("c")), named("d")).AllowFailures().Finally(named("finally"))
		},
		story:  []string{"bad", "d", "finally"},
		status: "failed, 2 members: 1 completed, 1 failed; generation 1",
		states: "b cancelled, bad failed, c cancelled, chain failed, d completed, finally completed",
	},
	"Q13.11 a batch in a chain": {
		chain: func(d sequencer.Dispatcher) *sequencer.Chain {
			return d.Chain(named("a"), d.Batch(named("b"), named("bad")).AllowFailures(), named("c")).Catch(named("catch"))
		},
		story:  []string{"a", "b", "bad", "c"},
		status: "completed, 3 members: 3 completed; generation 1",
		states: "a completed, b completed, bad failed, batch completed, c completed",
	},
	"Q13.11 and one that allows no failures": {
		chain: func(d sequencer.Dispatcher) *sequencer.Chain {
			return d.Chain(named("a"), d.Batch(named("b"), named("bad")).Catch(named("catch")), named("c")).Catch(named("catch2"))
		},
		story:  []string{"a", "b", "bad", "catch of bad: boom", "catch2 of bad: boom"},
		status: "failed, 3 members: 1 completed, 1 failed, 1 cancelled; generation 1",
		states: "a completed, b completed, bad failed, batch failed, c cancelled, catch completed, catch2 completed",
	},
}

func TestQ13_FlowTimelines(t *testing.T) {
	t.Parallel()
	for name, l := range flowTimelines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, func(w *world) {
				mended := false
				for _, name := range []string{"a", "b", "c", "d", "then", "catch", "catch2", "finally", "bad"} {
					sequencer.RegisterFunc(w.reg, name, func(ctx context.Context) error {
						if f, ok := sequencer.FailureOf(ctx); ok {
							w.note(fmt.Sprintf("ran %s of %s: %s", name, f.Name, f.Message))
						} else {
							w.note("ran " + name)
						}
						if name == "bad" && !mended {
							return errBoom
						}
						return nil
					})
				}
				s := w.seq(w.process(), sequencer.Config{})
				f, err := l.dispatch(w.t.Context(), s)
				if err != nil {
					w.t.Fatal(err)
				}
				w.one(s)
				l.check(w, s, f, 0)
				if l.again == nil {
					return
				}
				mended = true
				before := len(w.ran())
				if err := f.Retry(w.t.Context(), sequencer.RetryOptions{}); err != nil {
					w.t.Fatal(err)
				}
				w.one(s)
				l.again.check(w, s, f, before)
			})
		})
	}
}

func (l flowTimeline) dispatch(ctx context.Context, s *sequencer.Sequencer) (*sequencer.Flow, error) {
	if l.flow != nil {
		return l.flow(s).Dispatch(ctx)
	}
	return l.chain(s).Dispatch(ctx)
}

// one works one execution after the other.
func (w *world) one(s *sequencer.Sequencer) {
	w.t.Helper()
	if err := s.Work(w.t.Context(), sequencer.WorkerConfig{Slots: 1, StopWhenEmptyFor: time.Minute, Poll: 10 * time.Second}); err != nil {
		w.t.Fatal(err)
	}
}

// ran is what handlers noted, in order.
func (w *world) ran() (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.notes {
		if name, ok := strings.CutPrefix(n, "ran "); ok {
			names = append(names, name)
		}
	}
	return names
}

func (l flowTimeline) check(w *world, s *sequencer.Sequencer, f *sequencer.Flow, before int) {
	w.t.Helper()
	if got := w.ran()[before:]; !slices.Equal(got, l.story) {
		w.t.Errorf("there ran %q, want %q", got, l.story)
	}
	st, err := f.Status(w.t.Context())
	if got := stands(&st); err != nil || got != l.status || st.FinishedAt.IsZero() {
		w.t.Errorf("the flow is %s, %v; want %s", got, err, l.status)
	}
	rows, err := s.Store().Executions(w.t.Context(), storage.Filter{})
	if err != nil {
		w.t.Fatal(err)
	}
	var states []string
	for _, row := range rows {
		states = append(states, row.Name+" "+string(row.State))
	}
	slices.Sort(states)
	if got := strings.Join(states, ", "); got != l.states {
		w.t.Errorf("the ledger holds %s; want %s", got, l.states)
	}
}

// stands puts a status in words, and leaves out what there is none of.
func stands(st *sequencer.FlowStatus) string {
	var counts []string
	for _, c := range []struct {
		n    int
		what string
	}{
		{st.Pending, "pending"},
		{st.Running, "running"},
		{st.Completed, "completed"},
		{st.Failed, "failed"},
		{st.Skipped, "skipped"},
		{st.Cancelled, "cancelled"},
		{st.Interrupted, "interrupted"},
	} {
		if c.n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return fmt.Sprintf("%s, %d members: %s; generation %d", st.State, st.Total, strings.Join(counts, ", "), st.Generation)
}

const batchOf = 50 // members, Q13.13

// Q13.13 in fake time: a process dies at a write, and another one finishes. Signals are for
// package crashtest.
func TestQ13_13_ABatchWhoseProcessIsKilledAtAnyPoint(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for n, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			deaths := 100
			if b.open != nil || testing.Short() {
				deaths = 5
			}
			died := 0
			for range deaths {
				b.bubble(t, func(w *world) {
					if w.killedInABatch(1 + random.IntN(batchOf)) {
						died++
					}
				})
			}
			if died < deaths/2 {
				t.Errorf("%d of %d processes died: that shows nothing", died, deaths)
			}
		})
	}
}

// killedInABatch lets a process die at its n-th point of a write, if it comes so far, and
// reports whether it did.
func (w *world) killedInABatch(n int) (died bool) {
	w.t.Helper()
	sequencer.RegisterFunc(w.reg, "member", func(context.Context) error { w.note("ran member"); return nil })
	sequencer.RegisterFunc(w.reg, "then", func(context.Context) error { w.note("ran then"); return nil })
	s := w.seq(w.process(), sequencer.Config{})
	members := make([]sequencer.Operation, batchOf)
	for i := range members {
		members[i] = named("member")
	}
	f, err := s.Batch(members...).Then(named("then")).Dispatch(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	store := w.process()
	process := faultstore.NewMortal(store, 2+n) // two are those of Setup
	mortal := w.seq(process.Store(), sequencer.Config{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = mortal.Work(context.WithoutCancel(w.t.Context()), sequencer.WorkerConfig{Slots: 2, StopWhenEmptyFor: time.Minute, Poll: time.Second})
	}()
	select {
	case <-ended:
	case <-process.Dead():
		if err := process.Abort(context.WithoutCancel(w.t.Context())); err != nil {
			w.t.Error(err)
		}
		if err := store.Close(); err != nil {
			w.t.Error(err)
		}
	}
	w.work(s, 2*time.Minute)
	st, err := f.Status(w.t.Context())
	if got, want := stands(&st), "completed, 50 members: 50 completed; generation 1"; err != nil || got != want {
		w.t.Errorf("killed at point %d (%s) the batch is %s, %v", n, process.Point(), got, err)
	}
	rows := w.rows(s, "then")
	if len(rows) != 1 || rows[0].State != storage.Completed {
		w.t.Errorf("killed at point %d (%s): %d callbacks", n, process.Point(), len(rows))
	}
	if got := len(w.rows(s, "member")); got != batchOf {
		w.t.Errorf("killed at point %d (%s): %d members", n, process.Point(), got)
	}
	died = process.Point() != ""
	process.Kill()
	process.Bury()
	<-ended
	return died
}
