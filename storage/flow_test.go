package storage_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/storage"
)

func TestCountMovesAnEndingIntoItsCounterAndBack(t *testing.T) { // F1
	t.Parallel()
	for _, c := range []struct {
		kind    storage.Kind
		ended   storage.State
		allowed bool
		want    storage.Flow
	}{
		{storage.Ordered, storage.Completed, false, storage.Flow{Completed: 1}},
		{storage.Ordered, storage.RolledBack, false, storage.Flow{Completed: 1}},
		{storage.Unlisted, storage.Failed, false, storage.Flow{Failed: 1}},
		{storage.Unlisted, storage.Failed, true, storage.Flow{FailedAllowed: 1}},
		{storage.Unlisted, storage.Skipped, true, storage.Flow{Skipped: 1}},
		{storage.Migration, storage.Cancelled, false, storage.Flow{Cancelled: 1}},
		{storage.Ordered, storage.Interrupted, true, storage.Flow{Interrupted: 1}},
		{storage.Undo, storage.Completed, false, storage.Flow{UndoCompleted: 1}},
		{storage.Undo, storage.Failed, true, storage.Flow{UndoFailed: 1}},
		{storage.Undo, storage.Skipped, false, storage.Flow{UndoFailed: 1}},
		{storage.Undo, storage.Cancelled, false, storage.Flow{UndoFailed: 1}},
		{storage.Undo, storage.Interrupted, false, storage.Flow{UndoFailed: 1}},
		{storage.Ordered, storage.Pending, false, storage.Flow{}},
		{storage.Ordered, storage.Running, false, storage.Flow{}},
	} {
		var f storage.Flow
		f.Count(c.kind, c.ended, c.allowed, 1)
		if diff := cmp.Diff(c.want, f); diff != "" {
			t.Errorf("%s %s, allowed %v (-want +got):\n%s", c.kind, c.ended, c.allowed, diff)
		}
		f.Count(c.kind, c.ended, c.allowed, -1)
		if diff := cmp.Diff(storage.Flow{}, f); diff != "" {
			t.Errorf("%s %s taken back (-want +got):\n%s", c.kind, c.ended, diff)
		}
	}
}

func TestOpenIsWhatHasNotEnded(t *testing.T) { // Q5.15
	t.Parallel()
	f := storage.Flow{
		Total: 21, Completed: 1, Failed: 2, FailedAllowed: 3, Skipped: 4, Cancelled: 5, Interrupted: 5,
		UndoTotal: 6, UndoCompleted: 2, UndoFailed: 3,
	}
	if f.Open() != 1 || f.UndoOpen() != 1 {
		t.Errorf("%d open, %d undo open; want 1, 1", f.Open(), f.UndoOpen())
	}
}

func TestStops(t *testing.T) { // F2
	t.Parallel()
	for _, c := range []struct {
		policy  storage.FlowPolicy
		phase   storage.FlowPhase
		kind    storage.Kind
		ended   storage.State
		allowed bool
		want    bool
	}{
		{storage.PolicyStop, storage.PhaseForward, storage.Ordered, storage.Failed, false, true},
		{storage.PolicyCompensate, storage.PhaseForward, storage.Ordered, storage.Failed, false, true},
		{storage.PolicyContinue, storage.PhaseForward, storage.Ordered, storage.Failed, false, false},
		{storage.PolicyStop, storage.PhaseForward, storage.Ordered, storage.Failed, true, false},
		{storage.PolicyStop, storage.PhaseForward, storage.Ordered, storage.Completed, false, false},
		{storage.PolicyStop, storage.PhaseForward, storage.Ordered, storage.Skipped, false, false},
		{storage.PolicyStop, storage.PhaseForward, storage.Ordered, storage.Cancelled, false, false},
		{storage.PolicyContinue, storage.PhaseForward, storage.Ordered, storage.Interrupted, false, true},
		{storage.PolicyStop, storage.PhaseForward, storage.Ordered, storage.Interrupted, true, true},
		{storage.PolicyCompensate, storage.PhaseUndo, storage.Undo, storage.Failed, false, false},
		{storage.PolicyCompensate, storage.PhaseUndo, storage.Undo, storage.Interrupted, false, false},
		{storage.PolicyStop, storage.PhaseForward, storage.Undo, storage.Failed, false, false},
		{storage.PolicyAtomic, storage.PhaseForward, storage.Ordered, storage.Failed, false, true},
		{storage.PolicyAtomic, storage.PhaseForward, storage.Ordered, storage.Failed, true, false},
		{storage.PolicyAtomic, storage.PhaseForward, storage.Ordered, storage.Cancelled, false, true},
		{storage.PolicyAtomic, storage.PhaseUndo, storage.Undo, storage.Cancelled, false, false},
	} {
		f := storage.Flow{Policy: c.policy, Phase: c.phase}
		if got := f.Stops(c.kind, c.ended, c.allowed); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestSatisfies(t *testing.T) { // F3, S8.6
	t.Parallel()
	for _, s := range storage.States {
		want := s == storage.Completed || s == storage.Skipped
		if got := storage.Satisfies(s, false); got != want {
			t.Errorf("%s satisfies a need: %v, want %v", s, got, want)
		}
	}
	if storage.Satisfies(storage.Skipped, true) {
		t.Error("a skip for now satisfies a need")
	}
}

func TestCompensates(t *testing.T) { // F4
	t.Parallel()
	due := storage.Flow{Policy: storage.PolicyCompensate, Phase: storage.PhaseForward, Total: 2, Completed: 1, Failed: 1}
	if !due.Compensates() {
		t.Error("a failed compensating flow without open members does not compensate")
	}
	for what, change := range map[string]func(*storage.Flow){
		"a member is open":     func(f *storage.Flow) { f.Total++ },
		"another policy":       func(f *storage.Flow) { f.Policy = storage.PolicyStop },
		"already undoing":      func(f *storage.Flow) { f.Phase = storage.PhaseUndo },
		"only allowed failure": func(f *storage.Flow) { f.Failed, f.FailedAllowed = 0, 1 },
		"an interruption":      func(f *storage.Flow) { f.Total++; f.Interrupted++ },
		"stopped":              func(f *storage.Flow) { f.StopState = storage.Cancelled },
	} {
		f := due
		change(&f)
		if f.Compensates() {
			t.Errorf("%s: it compensates", what)
		}
	}
}

func TestAnAtomicFlowCompensatesWhateverStoppedIt(t *testing.T) { // F4, S22
	t.Parallel()
	base := storage.Flow{Policy: storage.PolicyAtomic, Phase: storage.PhaseForward, Total: 3, Completed: 3}
	for what, c := range map[string]struct {
		change func(*storage.Flow)
		want   bool
	}{
		"all completed":              {func(*storage.Flow) {}, false},
		"a failure":                  {func(f *storage.Flow) { f.Completed--; f.Failed++ }, true},
		"an allowed failure":         {func(f *storage.Flow) { f.Completed--; f.FailedAllowed++ }, false},
		"what needed an allowed one": {func(f *storage.Flow) { f.Completed--; f.Cancelled++ }, false},
		"stopped half-way":           {func(f *storage.Flow) { f.Completed--; f.Cancelled++; f.StopState = storage.Interrupted }, true},
		"stopped when all was done":  {func(f *storage.Flow) { f.StopState = storage.Interrupted }, false},
		"an interruption":            {func(f *storage.Flow) { f.Completed -= 2; f.Failed++; f.Interrupted++ }, false},
		"a member is open":           {func(f *storage.Flow) { f.Completed -= 2; f.Failed++ }, false},
		"already undoing":            {func(f *storage.Flow) { f.Completed--; f.Failed++; f.Phase = storage.PhaseUndo }, false},
	} {
		f := base
		c.change(&f)
		if got := f.Compensates(); got != c.want {
			t.Errorf("%s: compensates %v, want %v", what, got, c.want)
		}
	}
}

func TestVerdict(t *testing.T) { // F6
	t.Parallel()
	for what, c := range map[string]struct {
		flow storage.Flow
		want storage.State
	}{
		"nothing went wrong":            {storage.Flow{Completed: 1, Skipped: 1}, storage.Completed},
		"no member":                     {storage.Flow{}, storage.Completed},
		"cancelled members alone":       {storage.Flow{Cancelled: 2}, storage.Completed},
		"allowed failure":               {storage.Flow{FailedAllowed: 1}, storage.Completed},
		"failure":                       {storage.Flow{Failed: 1}, storage.Failed},
		"interruption before failure":   {storage.Flow{Failed: 1, Interrupted: 1}, storage.Interrupted},
		"stopped":                       {storage.Flow{StopState: storage.Cancelled}, storage.Cancelled},
		"atomic, stopped half-way":      {storage.Flow{Policy: storage.PolicyAtomic, Cancelled: 1, StopState: storage.Interrupted}, storage.Interrupted},
		"atomic, stopped after all":     {storage.Flow{Policy: storage.PolicyAtomic, StopState: storage.Interrupted}, storage.Completed},
		"failure before stop":           {storage.Flow{Failed: 1, StopState: storage.Cancelled}, storage.Failed},
		"stopped as interrupted":        {storage.Flow{Failed: 1, StopState: storage.Interrupted}, storage.Interrupted},
		"failed undo of a rollback":     {storage.Flow{Kind: storage.FlowRollback, UndoFailed: 1}, storage.Failed},
		"failed undo of a run":          {storage.Flow{Kind: storage.FlowRun, UndoFailed: 1}, storage.Completed},
		"failed undo of a stopped back": {storage.Flow{Kind: storage.FlowRollback, UndoFailed: 1, StopState: storage.Cancelled}, storage.Failed},
	} {
		if got := c.flow.Verdict(); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
}
