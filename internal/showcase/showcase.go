// Package showcase fills a ledger with something of everything: deploys, work in every
// state, batches and chains, schedules, pauses, a worker that is at it. Tests of what
// shows ledgers to people look at it.
package showcase

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// Markup is in inputs, errors and reasons. It is to be seen as it is written here.
const Markup = `<script>document.title="taken"</script><img src=x onerror=alert(1)>"'&`

// Secret is the input of an encrypted operation. It is to be seen nowhere.
const Secret = "4929-1234-5678"

// Show is a ledger, and who keeps it moving.
type Show struct {
	*sequencer.Sequencer

	Failed    string // ids of executions: one that failed for good
	Waiting   string // one that nobody takes: its queue is paused
	Running   string // one that runs until the test ends
	Encrypted string
	Scheduled string // due in an hour
	Refund    string // waits for approval by finance
	Approval  string // its question
	Batch     string // ids of flows: a batch in which one failed
	Open      string // a batch that is not over
	Chain     string
	Run       string // the deploy that completed
	FailedRun string // the one before it, which undid what it could

	tb testing.TB
}

type release struct {
	Version string `json:"version"`
	Files   int    `json:"files"`
}

type mail struct {
	To      string `json:"to"`
	Subject string `json:"subject"`
}

type refund struct {
	Order string `json:"order"`
	Cents int    `json:"cents"`
}

type card struct {
	Number string `json:"number"`
}

// Open fills the ledger of a store. What works on it ends with tb. sealer is for an
// encrypted operation; nil leaves that out. configure may change the configuration.
func Open(tb testing.TB, store storage.Store, sealer sequencer.Sealer, configure func(*sequencer.Config)) *Show {
	tb.Helper()
	s := &Show{tb: tb}
	reg := sequencer.NewRegistry()
	do := func(context.Context) error { return nil }
	sequencer.RegisterFunc(reg, "20260105090000_add_countries", do)
	sequencer.RegisterFunc(reg, "20260201120000_backfill_prices", func(ctx context.Context) error {
		sequencer.Progress(ctx, 120, 120)
		return nil
	}, sequencer.Undo(do))
	sequencer.RegisterFunc(reg, "20260311080000_warm_caches", do)
	broken := true
	sequencer.RegisterFunc(reg, "20260402100000_reindex_search", func(context.Context) error {
		if broken {
			return errors.New("the index is locked by another reader")
		}
		return nil
	})
	imports := sequencer.RegisterFuncOf(reg, "import_release", func(ctx context.Context, in release) error {
		sequencer.Progress(ctx, int64(in.Files), int64(in.Files))
		if in.Files == 13 {
			return fmt.Errorf("release %s has no manifest %s", in.Version, Markup)
		}
		return nil
	}, sequencer.Tagged("imports", "catalogue"))
	mails := sequencer.RegisterFuncOf(reg, "send_mail", func(_ context.Context, in mail) error {
		if in.To == "" {
			return errors.New("nobody to send it to")
		}
		return nil
	}, sequencer.OnQueue("mail"), sequencer.Tries(2), sequencer.Backoff(time.Millisecond))
	holding := make(chan struct{})
	slow := sequencer.RegisterFuncOf(reg, "build_report", func(ctx context.Context, _ release) error {
		sequencer.Progress(ctx, 420, 1000)
		select {
		case <-holding:
		case <-ctx.Done():
		}
		return ctx.Err()
	}, sequencer.OnQueue("reports"))
	refunds := sequencer.RegisterFuncOf(reg, "pay_refund", func(context.Context, refund) error { return nil }, sequencer.ApprovedBy("finance"))
	var sealed func(card) sequencer.Operation
	if sealer != nil {
		sealed = sequencer.RegisterFuncOf(reg, "charge_card", func(context.Context, card) error { return nil }, sequencer.Mark[sequencer.Encrypted]())
	}
	sequencer.Schedule(reg, "nightly_import", "30 2 * * *", imports(release{"nightly", 3}), sequencer.InZone("Europe/Berlin"))
	sequencer.Schedule(reg, "hourly_digest", "@hourly", mails(mail{"team@example.test", "digest"}))

	cfg := sequencer.Config{
		Environment: "staging", Actor: "deployer@build-7", Build: 1767600000, Sealer: sealer, Logger: slog.New(slog.DiscardHandler),
		Limiters: map[string]sequencer.Limiter{"external_api": sequencer.PerMinute(60)},
	}
	if configure != nil {
		configure(&cfg)
	}
	var err error
	s.Sequencer, err = sequencer.New(store, reg, cfg)
	s.must(err)
	ctx := tb.Context()
	s.must(s.Setup(ctx))

	// Two deploys: the first undoes what it did, the second succeeds.
	report, err := s.Process(ctx, sequencer.RunOptions{})
	if err == nil {
		tb.Fatal("the first run is to fail")
	}
	s.FailedRun = report.RunID
	broken = false
	report, err = s.Process(ctx, sequencer.RunOptions{})
	s.must(err)
	s.Run = report.RunID

	for i := range 40 {
		s.dispatch(imports(release{fmt.Sprintf("1.%d", i), 10 + i%7}))
	}
	for i := range 12 {
		s.dispatch(mails(mail{fmt.Sprintf("user%d@example.test", i), "welcome"}))
	}
	s.dispatch(imports(release{Markup, 12}))
	s.dispatch(mails(mail{"", Markup}))
	if sealed != nil {
		s.Encrypted = s.dispatch(sealed(card{Secret}))
	}
	s.Scheduled = s.dispatch(imports(release{"2.0", 5}), sequencer.Delay(time.Hour))
	withdrawn := s.dispatch(imports(release{"0.9", 5}))
	s.must(s.As("ada").Cancel(ctx, withdrawn, "it is superseded "+Markup))

	s.Chain = s.flow(s.Sequencer.Chain(imports(release{"3.0", 8}), imports(release{"3.1", 8}), mails(mail{"team@example.test", "done"})).Name("publish").Dispatch(ctx))
	s.Batch = s.flow(s.Sequencer.Batch(imports(release{"4.0", 8}), imports(release{"4.1", 13}), imports(release{"4.2", 8}),
		s.Sequencer.Chain(imports(release{"4.3", 8}), mails(mail{"x@example.test", "4.3"})).Name("inner")).
		Name("catalogue").AllowFailures().Catch(mails(mail{"ops@example.test", "failed"})).Finally(mails(mail{"ops@example.test", "over"})).Dispatch(ctx))
	s.must(s.Work(ctx, sequencer.WorkerConfig{Queues: []string{"default", "mail"}, Slots: 4, StopWhenEmptyFor: 50 * time.Millisecond}))

	failed, err := store.Executions(ctx, storage.Filter{States: []storage.State{storage.Failed}, Name: "send_mail"})
	s.must(err)
	s.Failed = failed[0].ID.String()

	s.must(s.As("grace").Pause(ctx, storage.PauseQueue, "mail", "the provider is down "+Markup))
	s.Waiting = s.dispatch(mails(mail{"late@example.test", "waits"}))
	s.Open = s.flow(s.Sequencer.Batch(mails(mail{"a@example.test", "1"}), mails(mail{"b@example.test", "2"})).Name("newsletter").Dispatch(ctx))
	s.Running = s.dispatch(slow(release{"report", 1}))
	s.Refund = s.dispatch(refunds(refund{"A-1007 " + Markup, 1299_00}))
	s.serve(holding)
	s.Approval = s.question(s.Refund)
	return s
}

// serve has a worker live until the test ends, once it holds what is to be running.
func (s *Show) serve(holding chan struct{}) {
	s.tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.tb.Context()))
	done := make(chan error, 1)
	go func() {
		done <- s.Work(ctx, sequencer.WorkerConfig{Queues: []string{"default", "mail", "reports"}, Slots: 4})
	}()
	s.tb.Cleanup(func() {
		close(holding)
		cancel()
		if err := <-done; err != nil && !errors.Is(err, sequencer.ErrShutdown) && !errors.Is(err, context.Canceled) {
			s.tb.Errorf("the worker of the showcase: %v", err)
		}
	})
	s.Until(func() bool { return s.State(s.Running) == storage.Running })
}

// State is the state of an execution.
func (s *Show) State(id string) storage.State {
	s.tb.Helper()
	return s.Execution(id).State
}

// Execution is a row of the ledger, zero if there is none.
func (s *Show) Execution(id string) storage.Execution {
	s.tb.Helper()
	parsed, err := storage.ParseID(id)
	s.must(err)
	rows, err := s.Store().Executions(s.tb.Context(), storage.Filter{IDs: []storage.ID{parsed}})
	s.must(err)
	if len(rows) == 0 {
		return storage.Execution{}
	}
	return rows[0]
}

// Until looks until something is so.
func (s *Show) Until(so func() bool) {
	s.tb.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-late.C:
			s.tb.Fatal("it did not become so in 30 seconds")
		}
	}
}

// AskRefund dispatches another one that waits for approval, and returns it once that is asked for.
func (s *Show) AskRefund() string {
	s.tb.Helper()
	id := s.dispatch(sequencer.Named("pay_refund", refund{"A-1008", 40_00}))
	s.question(id)
	return id
}

// question is the approval that an execution waits for, once it does.
func (s *Show) question(execution string) (id string) {
	s.tb.Helper()
	s.Until(func() bool {
		asked, err := s.Approvals(s.tb.Context())
		s.must(err)
		for i := range asked {
			if asked[i].Execution == execution {
				id = asked[i].ID
			}
		}
		return id != ""
	})
	return id
}

// More dispatches work that succeeds, for what is to change while somebody looks.
func (s *Show) More(n int) {
	s.tb.Helper()
	for i := range n {
		s.dispatch(sequencer.Named("import_release", release{fmt.Sprintf("9.%d", i), 5}))
	}
}

func (s *Show) dispatch(op sequencer.Operation, options ...sequencer.DispatchOption) string {
	s.tb.Helper()
	r, err := s.Dispatch(s.tb.Context(), op, options...)
	s.must(err)
	return r.ID
}

func (s *Show) flow(f *sequencer.Flow, err error) string {
	s.tb.Helper()
	s.must(err)
	return f.ID()
}

func (s *Show) must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
}
