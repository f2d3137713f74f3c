package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// onStores runs a test on memory and on SQLite.
func onStores(t *testing.T, test func(t *testing.T, l *lab)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, newLab(t))
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		store, err := sqlite.Open(t.Context(), testdb.SQLite(t), sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		if _, err := store.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		l := newLab(t)
		l.store = store
		test(t, l)
	})
}

// bill fails until the bank is open.
type bill struct {
	N    int    `json:"n"`
	Tag  string `json:"tag"`
	Only string `json:"only"`
}

func (c bill) Tags() []string {
	if c.Tag == "" {
		return nil
	}
	return []string{c.Tag}
}

// bank is a lab with three kinds of failed work: bill (two error groups, tags),
// refund on another queue, and a completed one.
type bank struct {
	*lab
	open   bool
	bill   func(bill) sequencer.Operation
	refund func(count) sequencer.Operation
}

func newBank(t *testing.T, l *lab) *bank {
	t.Helper()
	b := &bank{lab: l}
	b.bill = sequencer.RegisterFuncOf(l.reg, "bill", func(_ context.Context, in bill) error {
		l.note(fmt.Sprint("bill ", in.N))
		switch {
		case b.open:
			return nil
		case in.N%2 == 1:
			return fmt.Errorf("account %d is closed", in.N)
		}
		return errors.New("no money")
	})
	b.refund = sequencer.RegisterFuncOf(l.reg, "refund", func(_ context.Context, in count) error {
		l.note(fmt.Sprint("refund ", in.N))
		if b.open {
			return nil
		}
		return errors.New("no money")
	}, sequencer.OnQueue("low"))
	l.open()
	for i := range 5 {
		b.enqueue(func(int) sequencer.Operation {
			return b.bill(bill{N: i, Tag: map[bool]string{true: "vip"}[i == 4]})
		}, 1)
	}
	b.enqueue(func(i int) sequencer.Operation { return b.refund(count{i}) }, 2)
	if err := l.Work(t.Context(), sequencer.WorkerConfig{Queues: []string{"default", "low"}, Slots: 1, StopWhenEmpty: true}); err != nil {
		t.Fatal(err)
	}
	b.done()
	return b
}

func (b *bank) failed(sel sequencer.Selection) []storage.Execution {
	b.t.Helper()
	rows, err := b.Failed(b.t.Context(), sel)
	if err != nil {
		b.t.Fatal(err)
	}
	return rows
}

// audit is the newest entry.
func (l *lab) audit() storage.AuditEntry {
	l.t.Helper()
	list, err := l.store.Audit(l.t.Context(), storage.AuditFilter{Limit: 1})
	if err != nil || len(list) == 0 {
		l.t.Fatalf("audit: %v, %v", list, err)
	}
	e := list[0]
	return storage.AuditEntry{Actor: e.Actor, Action: e.Action, Target: e.Target, Count: e.Count, Reason: e.Reason}
}

func TestFailedWorkIsListedNewestFirstAndGroupedByCause(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) { // Q10.22
		b := newBank(t, l)
		rows := b.failed(sequencer.Selection{})
		if len(rows) != 7 || rows[0].Name != "refund" || rows[6].Name != "bill" {
			t.Errorf("got %d rows from %s to %s, want 7 from refund to bill", len(rows), rows[0].Name, rows[len(rows)-1].Name)
		}
		for name, c := range map[string]struct {
			sel  sequencer.Selection
			want int
		}{
			"name":      {sequencer.Selection{Name: "bill"}, 5},
			"pattern":   {sequencer.Selection{Name: "*fund"}, 2},
			"tag":       {sequencer.Selection{Tags: []string{"vip"}}, 1},
			"tags":      {sequencer.Selection{Tags: []string{"nobody", "vip"}}, 1}, // S16.2
			"not tag":   {sequencer.Selection{Tags: []string{"-vip"}}, 6},
			"queue":     {sequencer.Selection{Queue: "low"}, 2},
			"limit":     {sequencer.Selection{Limit: 3}, 3},
			"since":     {sequencer.Selection{Since: rows[0].FinishedAt.Add(1)}, 0},
			"since all": {sequencer.Selection{Since: rows[6].CreatedAt}, 7},
			"both":      {sequencer.Selection{Name: "bill", Queue: "low"}, 0},
		} {
			if got := len(b.failed(c.sel)); got != c.want {
				t.Errorf("%s: %d rows, want %d", name, got, c.want)
			}
		}
		groups, err := l.FailureGroups(t.Context(), sequencer.Selection{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range groups {
			got = append(got, fmt.Sprintf("%s %d %s", g.Name, g.Count, g.Error))
			if n := len(b.failed(sequencer.Selection{Group: g.Group})); n != g.Count {
				t.Errorf("group %s has %d rows, want %d", g.Group, n, g.Count)
			}
		}
		if want := []string{"bill 3 no money", "refund 2 no money", "bill 2 account 3 is closed"}; !cmp.Equal(got, want) {
			t.Errorf("groups: %s", cmp.Diff(want, got))
		}
	})
}

func TestRetryPutsQueuedWorkBackIntoItsQueueWithCountersAnew(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) { // Q1.19, Q10.23
		b := newBank(t, l)
		row := b.failed(sequencer.Selection{Queue: "low"})[0]
		if err := l.Retry(t.Context(), row.ID.String(), "the bank is open"); err != nil {
			t.Fatal(err)
		}
		if did := l.done(); len(did) > 0 {
			t.Errorf("retry ran %v, want it left to a worker", did)
		}
		rows, err := l.store.Executions(t.Context(), storage.Filter{IDs: []storage.ID{row.ID}})
		if err != nil {
			t.Fatal(err)
		}
		if got := rows[0]; got.State != storage.Pending || got.Queue != "low" || got.Attempts() != 0 || got.Errors != 0 {
			t.Errorf("%s in %s after %d attempts and %d errors, want pending in low after none", got.State, got.Queue, got.Attempts(), got.Errors)
		}
		want := storage.AuditEntry{Actor: "tester@lab", Action: "retry", Target: row.ID.String(), Count: 1, Reason: "the bank is open"}
		if diff := cmp.Diff(want, l.audit()); diff != "" {
			t.Errorf("audit: %s", diff)
		}
		b.open = true
		b.drain("default", "low")
		l.wantStates(map[string]int{"bill failed": 5, "refund completed": 1, "refund failed": 1})

		// By name it is the newest that failed, although a later one completed.
		b.enqueue(func(int) sequencer.Operation { return b.refund(count{9}) }, 1)
		b.drain("low")
		if err := l.Retry(t.Context(), "refund", ""); err != nil {
			t.Error(err)
		}
		b.drain("low")
		l.wantStates(map[string]int{"bill failed": 5, "refund completed": 3})
		if err := l.Retry(t.Context(), "refund", ""); err == nil {
			t.Error("what completed was retried")
		}
	})
}

func TestRetryAllTakesWhatASelectionSelectsWithOneAuditEntry(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) { // Q10.23, decisions: one audit row for a bulk action
		b := newBank(t, l)
		b.open = true
		groups, err := l.FailureGroups(t.Context(), sequencer.Selection{Name: "bill"})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			sel    sequencer.Selection
			want   int
			target string
		}{
			{sequencer.Selection{Tags: []string{"vip"}}, 1, "failed tag=vip"},
			{sequencer.Selection{Group: groups[1].Group}, 2, "failed group=" + groups[1].Group},
			{sequencer.Selection{Name: "bi*", Limit: 1}, 1, "failed name=bi* limit=1"},
			{sequencer.Selection{All: true}, 3, "failed"},
		} {
			r, err := l.RetryAll(t.Context(), c.sel, "open again")
			if err != nil || r.Done != c.want || len(r.LeftOut) > 0 {
				t.Errorf("%s: %+v, %v; want %d retried", c.sel, r, err, c.want)
			}
			want := storage.AuditEntry{Actor: "tester@lab", Action: "retry", Target: c.target, Count: c.want, Reason: "open again"}
			if diff := cmp.Diff(want, l.audit()); diff != "" {
				t.Errorf("audit: %s", diff)
			}
		}
		b.drain("default", "low")
		l.wantStates(map[string]int{"bill completed": 5, "refund completed": 2})
	})
}

func TestASelectionOfEverythingMustBeMeant(t *testing.T) {
	t.Parallel()
	l := newLab(t).open()
	for name, sel := range map[string]sequencer.Selection{
		"nothing":   {},
		"both":      {All: true, Name: "x"},
		"limit":     {All: true, Limit: -1},
		"too small": {Limit: 5},
	} {
		if _, err := l.RetryAll(t.Context(), sel, ""); err == nil {
			t.Errorf("%s: retried", name)
		}
		if _, err := l.ForgetAll(t.Context(), sel, ""); err == nil {
			t.Errorf("%s: forgotten", name)
		}
	}
}

// sync has a unique key and fails until the bank is open.
type unique struct {
	Key string `json:"key"`
}

func (u unique) UniqueID() string { return u.Key }

func TestRetryAllLeavesOutWhatWouldBeTwiceInFlightOrHasNoQueue(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) { // Q4.15: uniqueness holds for a retry too
		op := sequencer.RegisterFuncOf(l.reg, "sync", func(context.Context, unique) error { return errors.New("boom") })
		l.op("20240101000000_seed", func(context.Context) error { return errors.New("boom") })
		l.open()
		for _, key := range []string{"a", "a", "b", "c"} {
			l.enqueue(func(int) sequencer.Operation { return op(unique{key}) }, 1)
			l.drain()
		}
		l.enqueue(func(int) sequencer.Operation { return op(unique{"b"}) }, 1) // in flight again
		if err := l.ExecuteSync(t.Context(), op(unique{"d"})); err == nil {
			t.Fatal("it completed")
		}
		if _, err := l.process(sequencer.RunOptions{}); err == nil { // what fails in a run is not among it
			t.Fatal("it completed")
		}
		r, err := l.RetryAll(t.Context(), sequencer.Selection{All: true}, "")
		if err != nil {
			t.Fatal(err)
		}
		want := sequencer.Selected{Done: 2, LeftOut: map[string]int{
			"another execution with its unique key is in flight": 2,
			"no queue to go back to: retry it by its id":         1,
		}}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Error(diff)
		}
		l.wantStates(map[string]int{"sync failed": 3, "sync pending": 3, "20240101000000_seed failed": 1})
	})
}

func TestForgetDeletesWhatIsOverAndNothingElse(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) { // Q10.24
		b := newBank(t, l)
		b.enqueue(func(int) sequencer.Operation { return b.bill(bill{N: 7}) }, 1)
		if err := l.Forget(t.Context(), "bill", "known"); err != nil { // the newest that failed
			t.Error(err)
		}
		l.wantStates(map[string]int{"bill failed": 4, "bill pending": 1, "refund failed": 2})
		if err := l.Forget(t.Context(), "0190c0de-dead-7000-8000-000000000000", ""); !errors.Is(err, sequencer.ErrOperationNotFound) {
			t.Errorf("an unknown id: %v", err)
		}
		pending, err := l.store.Executions(t.Context(), storage.Filter{States: []storage.State{storage.Pending}})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Forget(t.Context(), pending[0].ID.String(), ""); err == nil || !strings.Contains(err.Error(), "forgotten") {
			t.Errorf("what waits: %v", err)
		}
		r, err := l.ForgetAll(t.Context(), sequencer.Selection{Queue: "low"}, "nobody misses it")
		if err != nil || r.Done != 2 {
			t.Errorf("%+v, %v", r, err)
		}
		want := storage.AuditEntry{Actor: "tester@lab", Action: "forget", Target: "failed queue=low", Count: 2, Reason: "nobody misses it"}
		if diff := cmp.Diff(want, l.audit()); diff != "" {
			t.Errorf("audit: %s", diff)
		}
		l.wantStates(map[string]int{"bill failed": 4, "bill pending": 1})
	})
}

func TestAPrefixOfAnIDMustFitOneExecution(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // in a bubble ids of one moment begin alike
		b := newBank(t, newLab(t))
		id := b.failed(sequencer.Selection{})[0].ID.String()
		for entrance, do := range map[string]func(id string) error{
			"retry":  func(id string) error { return b.Retry(t.Context(), id, "") },
			"forget": func(id string) error { return b.Forget(t.Context(), id, "") },
			"why":    func(id string) error { _, err := b.Why(t.Context(), id); return err },
			"cancel": func(id string) error { return b.Cancel(t.Context(), id, "") },
		} {
			if err := do(id[:8]); err == nil || !strings.Contains(err.Error(), "is not unique: give more of it") {
				t.Errorf("%s: a prefix of many: %v", entrance, err)
			}
			if err := do(id[:7]); !errors.Is(err, sequencer.ErrOperationNotFound) {
				t.Errorf("%s: a prefix that is too short: %v", entrance, err)
			}
		}
		if err := b.Retry(t.Context(), strings.ToUpper(id[:30]), ""); err != nil {
			t.Errorf("a prefix of one: %v", err)
		}
	})
}

func TestForgetKeepsWhatRunsKnowAnOrderedOperationBy(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) {
		l.op("20240101000000_seed", func(context.Context) error { return errors.New("boom") })
		l.open()
		if _, err := l.Dispatch(t.Context(), sequencer.Named("20240101000000_seed", nil)); err != nil {
			t.Fatal(err)
		}
		l.drain()
		r, err := l.ForgetAll(t.Context(), sequencer.Selection{All: true}, "")
		if err != nil || r.Done != 0 || r.LeftOut["runs know an ordered operation by it"] != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		if err := l.Forget(t.Context(), "20240101000000_seed", ""); err == nil {
			t.Error("it was forgotten")
		}
		l.wantStates(map[string]int{"20240101000000_seed failed": 1})
	})
}

func TestManyFailuresAreRetriedAndForgottenInPages(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) {
		op := sequencer.RegisterFuncOf(l.reg, "bill", func(context.Context, count) error { return errors.New("boom") })
		l.open()
		const n = 2345
		for range 5 {
			l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, n/5)
		}
		if err := l.Work(t.Context(), sequencer.WorkerConfig{StopWhenEmpty: true, Slots: 100}); err != nil {
			t.Fatal(err)
		}
		r, err := l.RetryAll(t.Context(), sequencer.Selection{All: true}, "")
		if err != nil || r.Done != n {
			t.Fatalf("retried %+v, %v", r, err)
		}
		l.wantStates(map[string]int{"bill pending": n})
		if err := l.Work(t.Context(), sequencer.WorkerConfig{StopWhenEmpty: true, Slots: 100}); err != nil {
			t.Fatal(err)
		}
		r, err = l.ForgetAll(t.Context(), sequencer.Selection{Name: "bill"}, "")
		if err != nil || r.Done != n {
			t.Fatalf("forgot %+v, %v", r, err)
		}
		l.wantStates(map[string]int{})
		entries, err := l.store.Audit(t.Context(), storage.AuditFilter{Target: "failed name=bill"})
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, e := range entries {
			sum += e.Count
		}
		if sum != n || len(entries) != 3 {
			t.Errorf("%d audit entries count %d, want 3 and %d", len(entries), sum, n)
		}
	})
}

// meddler does something to an execution of an order just before it is carried out.
type meddler struct {
	storage.Store
	action storage.Action // "" = nothing any more
}

func (m *meddler) Operate(ctx context.Context, o storage.Order) ([]storage.Execution, error) {
	if m.action != "" {
		if _, err := m.Store.Operate(ctx, storage.Order{Action: m.action, IDs: o.IDs[1:2]}); err != nil {
			return nil, err
		}
		m.action = ""
	}
	return m.Store.Operate(ctx, o)
}

func TestWhatChangesUnderABulkOrderIsLeftOutAndTheRestIsDone(t *testing.T) {
	t.Parallel()
	for _, action := range []storage.Action{storage.ActRetry, storage.ActForget} {
		onStores(t, func(t *testing.T, l *lab) {
			b := newBank(t, l)
			l.store = &meddler{Store: l.store, action: action}
			b.lab.open()
			r, err := l.RetryAll(t.Context(), sequencer.Selection{Name: "bill"}, "")
			want := sequencer.Selected{Done: 4, LeftOut: map[string]int{"changed meanwhile": 1}}
			if diff := cmp.Diff(want, r); err != nil || diff != "" {
				t.Errorf("%s: %v, %s", action, err, diff)
			}
		})
	}
}
