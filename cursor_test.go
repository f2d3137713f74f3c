package sequencer_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// resumed is an operation that tells where it begins, saves where it ends, and ends as
// it is told.
type resumed struct {
	at    int
	began []int // 0 = without a cursor
	end   error
	save  bool
}

func (r *resumed) handle(ctx context.Context) error {
	at := 0
	if _, err := sequencer.Resume(ctx, &at); err != nil {
		return err
	}
	r.began = append(r.began, at)
	if r.save {
		r.at++
		if err := sequencer.Checkpoint(ctx, r.at); err != nil {
			return err
		}
	}
	return r.end
}

func (r *resumed) estimate(ctx context.Context) (int64, error) {
	at := 0
	_, err := sequencer.Resume(ctx, &at)
	return int64(100 - at), err
}

// wantBegan says where the last execution began.
func (r *resumed) wantBegan(t *testing.T, when string, want int) {
	t.Helper()
	if got := r.began[len(r.began)-1]; got != want {
		t.Errorf("%s: it began at %d, want %d", when, got, want)
	}
}

func TestANewRunGoesOnFromTheCursorOfAnExecutionThatCameToNoEnd(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			r := &resumed{}
			opts := []sequencer.RegisterOption{sequencer.Estimate(r.estimate)}
			if sealed {
				l.cfg.Sealer = rings(t, "k1")[0] // what is sealed belongs to the execution that saved it
				opts = append(opts, sequencer.Mark[sequencer.Encrypted]())
			}
			l.op(first, r.handle, opts...)
			l.open()
			run := func(repeat bool) error {
				_, err := l.process(sequencer.RunOptions{Repeat: repeat})
				return err
			}
			r.save, r.end = true, errBoom
			if err := run(false); !errors.Is(err, errBoom) {
				t.Fatal(err)
			}
			r.wantBegan(t, "the first time", 0)
			r.save, r.end = false, sequencer.SkipForNow("not yet")
			for range 2 { // one that saves nothing does not forget it
				if err := run(false); err != nil {
					t.Fatal(err)
				}
				r.wantBegan(t, "after a failure", 1)
			}
			plan := l.preview(sequencer.RunOptions{Evaluate: true})
			if e := plan.Tasks[0].Evaluation; e == nil || e.Rows == nil || *e.Rows != 99 {
				t.Errorf("the preview says %+v, want 99 rows left", e)
			}
			r.save, r.end = true, nil
			if err := run(false); err != nil {
				t.Fatal(err)
			}
			r.wantBegan(t, "after two skips", 1)
			if err := run(true); err != nil {
				t.Fatal(err)
			}
			r.wantBegan(t, "repeated when it was done", 0)
			if _, err := l.Rollback(t.Context(), first, sequencer.RollbackOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := run(false); err != nil {
				t.Fatal(err)
			}
			r.wantBegan(t, "after it was undone", 0)
		})
	}
}

// running is the worker that holds an operation's execution.
func (l *lab) running(name string) storage.ID {
	l.t.Helper()
	return l.rows(storage.Filter{Name: name, States: []storage.State{storage.Running}})[0].WorkerID
}

func TestQ217AnExecutionThatGetsFurtherIsNotFailedForTheWorkersItLost(t *testing.T) {
	t.Parallel()
	for moves, want := range map[bool]storage.State{true: storage.Completed, false: storage.Failed} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			const kills = sequencer.MaxLost + 3
			died := 0
			op := sequencer.RegisterFunc(l.reg, "long", func(ctx context.Context) error {
				at := 0
				if moves {
					at = died + 1
				}
				if err := sequencer.Checkpoint(ctx, at); err != nil {
					return err
				}
				if died++; died <= kills {
					if err := l.store.Leave(ctx, l.running("long")); err != nil {
						return err
					}
					<-ctx.Done()
				}
				return nil
			})
			l.open()
			if _, err := l.Dispatch(t.Context(), op); err != nil {
				t.Fatal(err)
			}
			l.drain()
			if got := l.rows(storage.Filter{Name: "long"})[0]; got.State != want {
				t.Errorf("a cursor that moves, %v: %s after %d losses in a row, want %s", moves, got.State, got.Losses, want)
			}
		})
	}
}
