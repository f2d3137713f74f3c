package settle_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// The rules themselves are proved by storagetest on real stores; here is what a
// store that works never shows: errors of its steps, and their order.

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var errStep = errors.New("step failed")

// steps is a backend that records its steps and fails at one of them.
type steps struct {
	settle.Rows // of the steps that no scenario takes

	flow      storage.Flow
	behind    []settle.Behind
	cancelled []settle.Ending
	undoable  []storage.Execution

	failAt int // 1 = the first; 0 = never
	taken  []string
	saved  storage.Flow
}

func (s *steps) step(name string) error {
	s.taken = append(s.taken, name)
	if len(s.taken) == s.failAt {
		return errStep
	}
	return nil
}

func (s *steps) LockFlows(context.Context, []storage.ID) ([]storage.Flow, error) {
	return []storage.Flow{s.flow}, s.step("lock")
}

func (s *steps) SaveFlow(_ context.Context, f storage.Flow) error {
	s.saved = f
	return s.step("save")
}

func (s *steps) Release(_ context.Context, _ time.Time, _ []storage.ID, needs bool) error {
	if needs {
		return s.step("release all")
	}
	return s.step("release order")
}

func (s *steps) Leaving(context.Context, []storage.ID) ([]settle.Behind, error) {
	behind := s.behind
	s.behind = nil // what is cancelled now is needed by nobody
	return behind, s.step("leaving")
}

func (s *steps) PendingNested(context.Context, storage.ID) ([]storage.ID, error) {
	return nil, s.step("nested")
}

func (s *steps) Cancel(context.Context, time.Time, []settle.Cancellation) ([]settle.Ending, error) {
	return s.cancelled, s.step("cancel")
}

func (s *steps) CancelPending(context.Context, time.Time, storage.ID, string, bool) ([]settle.Ending, error) {
	return s.cancelled, s.step("cancel pending")
}

func (s *steps) Undoable(context.Context, storage.ID) ([]storage.Execution, error) {
	return s.undoable, s.step("undoable")
}

func (s *steps) Insert(context.Context, time.Time, settle.Insertion) error {
	return s.step("insert")
}

func (s *steps) MarkUndone(context.Context, time.Time, storage.ID) error {
	return s.step("mark undone")
}

func (s *steps) MarkUndoFailed(context.Context, storage.ID, string) error {
	return s.step("mark undo failed")
}

// scenario is a call and the steps it takes.
type scenario struct {
	name  string
	setup func() *steps
	run   func(*steps) error
	want  []string
}

var (
	flowID = storage.NewID()
	a, b   = storage.NewID(), storage.NewID()
)

func ending(id storage.ID, kind storage.Kind, state storage.State) settle.Ending {
	return settle.Ending{ID: id, FlowID: flowID, Name: "member", Kind: kind, State: state}
}

func ended(e ...settle.Ending) func(*steps) error {
	return func(s *steps) error {
		_, err := settle.Endings(context.Background(), s, now, e)
		return err
	}
}

var scenarios = []scenario{
	{
		"a member that needs a failed one is cancelled before what only follows is released",
		func() *steps {
			return &steps{
				flow: storage.Flow{ID: flowID, Policy: storage.PolicyContinue, Phase: storage.PhaseForward, Total: 3}, behind: []settle.Behind{{Edge: storage.Edge{From: a, To: b, Needs: true}}},
				cancelled: []settle.Ending{ending(b, storage.Unlisted, storage.Cancelled)},
			}
		},
		ended(ending(a, storage.Unlisted, storage.Failed)),
		[]string{"lock", "leaving", "cancel", "release order", "leaving", "release order", "save"},
	},
	{
		"a failure that stops the flow cancels without settling edges",
		func() *steps {
			return &steps{
				flow:      storage.Flow{ID: flowID, Policy: storage.PolicyStop, Phase: storage.PhaseForward, Total: 2},
				cancelled: []settle.Ending{ending(b, storage.Unlisted, storage.Cancelled)},
			}
		},
		ended(ending(a, storage.Unlisted, storage.Failed)),
		[]string{"lock", "cancel pending", "nested", "save"},
	},
	{
		"compensation is inserted before the flow is saved",
		func() *steps {
			return &steps{
				flow:     storage.Flow{ID: flowID, Policy: storage.PolicyCompensate, Phase: storage.PhaseForward, Total: 2, Completed: 1},
				undoable: []storage.Execution{{ID: a, Name: "done"}},
			}
		},
		ended(ending(b, storage.Unlisted, storage.Failed)),
		[]string{"lock", "cancel pending", "nested", "undoable", "insert", "save"},
	},
	{
		"an undo marks its target before its flow moves",
		func() *steps {
			return &steps{flow: storage.Flow{ID: flowID, Phase: storage.PhaseUndo, UndoTotal: 2}}
		},
		ended(ending(a, storage.Undo, storage.Completed), ending(b, storage.Undo, storage.Failed)),
		[]string{"mark undone", "mark undo failed", "lock", "release all", "leaving", "release order", "save"},
	},
	{
		"a stop cancels, then saves",
		func() *steps {
			return &steps{flow: storage.Flow{ID: flowID, Phase: storage.PhaseForward, Total: 1}, cancelled: []settle.Ending{ending(a, storage.Unlisted, storage.Cancelled)}}
		},
		func(s *steps) error {
			_, _, err := settle.Stop(context.Background(), s, now, storage.StopFlowRequest{ID: flowID, State: storage.Cancelled})
			return err
		},
		[]string{"lock", "cancel pending", "nested", "save"},
	},
}

func TestStepsComeInTheirOrder(t *testing.T) { // F1 to F6
	t.Parallel()
	for _, c := range scenarios {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := c.setup()
			if err := c.run(s); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, s.taken); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnErrorOfAnyStepIsTheAnswerAndEndsTheWork(t *testing.T) { // Q0.2
	t.Parallel()
	for _, c := range scenarios {
		for i, step := range c.want {
			s := c.setup()
			s.failAt = i + 1
			if err := c.run(s); !errors.Is(err, errStep) {
				t.Errorf("%s: %s failed, the answer is %v", c.name, step, err)
			}
			if !slices.Equal(s.taken, c.want[:i+1]) {
				t.Errorf("%s: after %s failed went on with %v", c.name, step, s.taken[i+1:])
			}
		}
	}
}

func TestStopReturnsTheFlowAsItWasSaved(t *testing.T) { // Q5.27
	t.Parallel()
	s := scenarios[len(scenarios)-1].setup()
	got, _, err := settle.Stop(t.Context(), s, now, storage.StopFlowRequest{ID: flowID, State: storage.Cancelled, Reason: "enough"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.saved, got); diff != "" {
		t.Errorf("answer against what was saved (-saved +got):\n%s", diff)
	}
	if !got.Over() || got.State != storage.Cancelled {
		t.Errorf("the flow is %s, over %v; want cancelled, over", got.State, got.Over())
	}
}

func TestEndingsOfNoFlowTouchNothing(t *testing.T) {
	t.Parallel()
	s := &steps{}
	flows, err := settle.Endings(t.Context(), s, now, []settle.Ending{{ID: a, Kind: storage.Unlisted, State: storage.Completed}})
	if err != nil || len(flows) != 0 || len(s.taken) != 0 {
		t.Errorf("flows %v, error %v, steps %v; want nothing", flows, err, s.taken)
	}
}
