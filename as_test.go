package sequencer_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

func TestActingForSomebodyNamesThemInTheLedger_S31(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) {
		sequencer.RegisterFunc(l.reg, "report", func(context.Context) error { return nil })
		seq := l.open().Sequencer
		if err := seq.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		ada := seq.As("ada")
		r, err := ada.Dispatch(t.Context(), sequencer.Named("report", nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := ada.Cancel(t.Context(), r.ID, "not needed"); err != nil {
			t.Fatal(err)
		}
		if _, err := seq.As("").Dispatch(t.Context(), sequencer.Named("report", nil)); err != nil {
			t.Fatal(err)
		}
		rows, err := seq.Store().Executions(t.Context(), storage.Filter{Oldest: true})
		if err != nil || len(rows) != 2 {
			t.Fatalf("got %d rows, %v", len(rows), err)
		}
		if rows[0].Actor != "ada" || rows[1].Actor != seq.Config().Actor {
			t.Errorf("got actors %q and %q, want ada and %q", rows[0].Actor, rows[1].Actor, seq.Config().Actor)
		}
		audit, err := seq.Store().Audit(t.Context(), storage.AuditFilter{})
		if err != nil || len(audit) != 1 || audit[0].Actor != "ada" || audit[0].Reason != "not needed" {
			t.Errorf("got %+v, %v; want one entry of ada", audit, err)
		}
	})
}

func TestWhatIsNotOverIsCancelledBySelection_Q10_21(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) {
		sequencer.RegisterFunc(l.reg, "report", func(context.Context) error { return nil })
		sequencer.RegisterFunc(l.reg, "letter", func(context.Context) error { return nil })
		seq := l.open().Sequencer
		if err := seq.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"report", "report", "letter"} {
			if _, err := seq.Dispatch(t.Context(), sequencer.Named(name, nil)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := seq.CancelAll(t.Context(), sequencer.Selection{}, ""); err == nil {
			t.Error("nothing was selected, and it was accepted")
		}
		sel := sequencer.Selection{Name: "report"}
		if found, err := seq.Unfinished(t.Context(), sel); err != nil || len(found) != 2 {
			t.Errorf("found %d, %v; want 2", len(found), err)
		}
		done, err := seq.CancelAll(t.Context(), sel, "stopped")
		if err != nil || done.Done != 2 {
			t.Errorf("got %+v, %v; want 2 done", done, err)
		}
		if left, err := seq.Unfinished(t.Context(), sequencer.Selection{All: true}); err != nil || len(left) != 1 || left[0].Name != "letter" {
			t.Errorf("left %+v, %v; want the letter", left, err)
		}
		audit, err := seq.Store().Audit(t.Context(), storage.AuditFilter{Target: "unfinished name=report"})
		if err != nil || len(audit) != 1 || audit[0].Count != 2 || audit[0].Reason != "stopped" {
			t.Errorf("got %+v, %v; want one entry for both", audit, err)
		}
	})
}

func TestASelectionConcernsNoOtherStateThanItNames_Q10_21(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) {
		b := newBank(t, l) // what failed of bill and refund
		if _, err := l.Dispatch(t.Context(), b.bill(bill{N: 9})); err != nil {
			t.Fatal(err)
		}
		failed := len(b.failed(sequencer.Selection{}))
		if failed == 0 {
			t.Fatal("nothing failed")
		}
		of := func(states ...storage.State) sequencer.Selection {
			return sequencer.Selection{All: true, States: states}
		}
		for name, c := range map[string]struct {
			verb func(context.Context, sequencer.Selection, string) (sequencer.Selected, error)
			sel  sequencer.Selection
		}{
			"cancel what runs":       {l.CancelAll, of(storage.Running)},
			"cancel what failed":     {l.CancelAll, of(storage.Failed)},
			"retry what waits":       {l.RetryAll, of(storage.Pending, storage.Running)},
			"forget what completed":  {l.ForgetAll, of(storage.Completed)},
			"forget what is no word": {l.ForgetAll, of("finished")},
		} {
			if r, err := c.verb(t.Context(), c.sel, ""); err != nil || r.Done != 0 {
				t.Errorf("%s: %+v, %v; want nothing done", name, r, err)
			}
		}
		if _, err := l.CancelAll(t.Context(), sequencer.Selection{States: []storage.State{storage.Pending}}, ""); err == nil {
			t.Error("a state alone was taken for a selection that is meant")
		}
		if n := len(b.failed(of(storage.Failed, storage.Pending))); n != failed {
			t.Errorf("%d failed, want %d", n, failed)
		}
		if r, err := l.CancelAll(t.Context(), of(storage.Pending, storage.Failed), "no more"); err != nil || r.Done != 1 {
			t.Errorf("%+v, %v; want the one that waits cancelled", r, err)
		}
		want := storage.AuditEntry{Actor: "tester@lab", Action: "cancel", Target: "unfinished state=pending,failed", Count: 1, Reason: "no more"}
		if diff := cmp.Diff(want, l.audit()); diff != "" {
			t.Errorf("audit: %s", diff)
		}
		if n := len(b.failed(sequencer.Selection{})); n != failed {
			t.Errorf("%d are failed still, want %d", n, failed)
		}
	})
}
