// Package storagetest is the public conformance suite of the storage contract: a
// backend that passes it keeps the promises of package storage. A backend's own
// test is these lines:
//
//	func TestConformance(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T) storage.Store {
//			return openEmptyLedger(t) // set up, closed by t.Cleanup
//		})
//	}
//
// and, when users' tables can share its database, the same with [RunTx].
//
// Each case is a subtest whose name is a sentence with the rules it defends. A
// case that fails prints these rules. Every ledger is checked for consistency
// when its case ends, see [Check].
//
// # Time and death
//
// Requests carry their Now, counted from one fixed instant, so nothing sleeps and
// every backend must give the same answers. Two verbs have no Now (Leave, Unlock)
// and Join may take the server's clock; no case depends on the instants they write.
// Death is told to the store in RescueRequest.Dead or by Leave, because stores
// differ in what they can prove by themselves; expiry of leases is tested where
// workers show a LeaseUntil, and its absence where they do not.
//
// Waking is the exception: it is proved with the store's own clock, and left out for
// a store that is no [storage.Waker]. A backend that must wake says so in its code.
package storagetest

import (
	"errors"
	"regexp"
	"testing"

	"github.com/gosequencer/sequencer/storage"
)

// rule is one case: a sentence that cites the rules it defends, and the proof.
type rule struct {
	name string
	run  func(t *testing.T, l *lab)
}

// Run runs the suite. The function it is given opens an empty ledger that has
// been set up, and registers its own cleanup; it is called once for each case and
// must give independent ledgers to concurrent callers.
func Run(t *testing.T, open func(t *testing.T) storage.Store) {
	t.Helper()
	group(t, "Setup", setupRules, open)
	group(t, "Enqueue", enqueueRules, open)
	group(t, "Claim", claimRules, open)
	group(t, "Finish", finishRules, open)
	group(t, "HoldKey", holdKeyRules, open)
	group(t, "Flow", flowRules, open)
	group(t, "Callback", callbackRules, open)
	group(t, "Nest", nestRules, open)
	group(t, "Add", addRules, open)
	group(t, "Resume", resumeRules, open)
	group(t, "Next", nextRules, open)
	group(t, "Undo", undoRules, open)
	group(t, "Hook", hookRules, open)
	group(t, "Lease", leaseRules, open)
	group(t, "Limit", limitRules, open)
	group(t, "Operate", operateRules, open)
	group(t, "Approve", approveRules, open)
	group(t, "Stop", stopRules, open)
	group(t, "Pause", pauseRules, open)
	group(t, "Forget", forgetRules, open)
	group(t, "Schedule", scheduleRules, open)
	group(t, "Keep", keepRules, open)
	group(t, "Reseal", resealRules, open)
	group(t, "Read", readRules, open)
	group(t, "Wake", wakeRules, open)
	t.Run("History", func(t *testing.T) { histories(t, open) })
}

func group(t *testing.T, name string, rules []rule, open func(t *testing.T) storage.Store) {
	t.Run(name, func(t *testing.T) {
		for _, r := range rules {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				recite(t, r.name)
				r.run(t, newLab(t, open(t)))
			})
		}
	})
}

var ruleID = regexp.MustCompile(`\b([SQ]\d+\.\d+|F[1-7]|T[1-4]|W[12]|A[1-3])\b`)

// recite prints the rules a name cites when its case has failed.
func recite(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			for _, id := range ruleID.FindAllString(name, -1) {
				t.Logf("broken rule %s: %s", id, rules[id])
			}
		}
	})
}

var setupRules = []rule{
	{"S4.10 Setup of a ledger that is set up changes nothing, and Schema tells its version", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		before := l.schema()
		if !before.Usable() || before.Version == 0 {
			t.Fatalf("schema of an open ledger is %+v, want a usable one", before)
		}
		again, err := l.store.Setup(t.Context())
		l.must(err, "repeat Setup")
		l.same("schema after a repeated Setup", again, before)
		l.wantState(a.ID, storage.Pending)
	}},
	{"S4.10 Setup is safe when several callers run it at once", func(t *testing.T, l *lab) {
		errs := make(chan error)
		for range 4 {
			go func() {
				_, err := l.store.Setup(t.Context())
				errs <- err
			}()
		}
		for range 4 {
			l.must(<-errs, "concurrent Setup")
		}
	}},
	{"S31.11 a store that is closed says so, and may be closed again", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"))
		l.must(l.store.Close(), "Close")
		_, err := l.store.Executions(t.Context(), storage.Filter{})
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Executions after Close: error %v, want ErrClosed", err)
		}
		_, err = l.store.Enqueue(t.Context(), storage.EnqueueRequest{Now: l.now, Executions: []storage.Execution{l.row("b")}})
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Enqueue after Close: error %v, want ErrClosed", err)
		}
		l.must(l.store.Close(), "a second Close")
	}},
	{"S31.11 a call with a context that is done writes nothing and says so", func(t *testing.T, l *lab) {
		ctx, cancel := cancelled(t)
		defer cancel()
		a := l.row("a")
		if _, err := l.store.Enqueue(ctx, storage.EnqueueRequest{Now: l.now, Executions: []storage.Execution{a}}); err == nil {
			t.Error("Enqueue with a cancelled context gave no error")
		}
		if got := l.list(storage.Filter{}); len(got) != 0 {
			t.Errorf("the ledger holds %d executions, want none", len(got))
		}
	}},
}
