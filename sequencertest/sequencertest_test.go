package sequencertest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/middleware"
	"github.com/gosequencer/sequencer/sequencertest"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// spy is a test that notes what it is told instead of failing.
type spy struct {
	testing.TB
	said []string
}

func (*spy) Helper() {}
func (s *spy) Errorf(format string, args ...any) {
	s.said = append(s.said, fmt.Sprintf(format, args...))
}

func (s *spy) want(t *testing.T, texts ...string) {
	t.Helper()
	if !slices.Equal(s.said, texts) {
		t.Errorf("the test was told %q, want %q", s.said, texts)
	}
	s.said = nil
}

type note struct {
	Text string `json:"text"`
}

func TestS33_2_EachAssertionFailsWhenItIsNotSo(t *testing.T) {
	t.Parallel()
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "mail:welcome", sequencer.Make[Welcome])
	write := sequencer.RegisterFuncOf(reg, "note", func(context.Context, note) error { return nil })
	plain := sequencer.RegisterFunc(reg, "plain", func(context.Context) error { return nil })
	s := &spy{TB: t}
	rec := sequencertest.NewRecorder(s)
	seq := sequencertest.New(t, reg, sequencer.Config{Recorder: rec})
	rec.AssertNothing()
	rec.AssertNothingElse()
	sequencertest.AssertNotDispatched[*Welcome](rec, nil)
	s.want(t)
	welcome := &Welcome{To: "ada"}
	if _, err := seq.DispatchAll(t.Context(), sequencer.With(welcome, sequencer.Delay(time.Hour)), write(note{"a"}), write(note{"b"}), plain); err != nil {
		t.Fatal(err)
	}
	if err := seq.Execute(t.Context(), sequencer.Named("note", note{"c"})); err != nil {
		t.Fatal(err)
	}
	all := "mail:welcome, note, note, plain, note"
	rec.AssertNothing()
	s.want(t, "nothing was to be dispatched; there was "+all)
	if got := sequencertest.Of[*Welcome](rec); len(got) != 1 || got[0] != welcome {
		t.Errorf("S33.1: got %v, want the value that was handed over", got)
	}
	if got := sequencertest.InputsOf[note](rec, "note"); !slices.Equal(got, []note{{"a"}, {"b"}, {"c"}}) {
		t.Errorf("inputs %v", got)
	}
	sequencertest.AssertDispatchedTimes(rec, 3, func(note) bool { return true })
	sequencertest.AssertDispatchedOnce(rec, func(n note) bool { return n.Text == "b" })
	rec.AssertNamed("plain", 1)
	s.want(t)
	rec.AssertNothingElse()
	s.want(t, "nothing else was to be dispatched; there was mail:welcome")
	sequencertest.AssertDispatched[*Welcome](rec, nil)
	rec.AssertNothingElse()
	s.want(t)
	sequencertest.AssertNotDispatched[*Welcome](rec, nil)
	sequencertest.AssertDispatchedOnce(rec, func(n note) bool { return n.Text > "a" })
	rec.AssertNamed("plain", 2)
	s.want(t, "1 of *sequencertest_test.Welcome were dispatched, want 0; there was "+all,
		"2 of sequencertest_test.note as asked for were dispatched, want 1; there was "+all,
		"plain was dispatched 1 times, want 2; there was "+all)
	rec.Reset()
	rec.AssertNothing()
	s.want(t)
	if rows, err := seq.Store().Executions(t.Context(), storage.Filter{}); err != nil || len(rows) != 0 {
		t.Errorf("S33.1: the ledger has %d rows, %v", len(rows), err)
	}
}

func TestS33_5_WhatWouldBeSkippedIsNotDispatched(t *testing.T) {
	t.Parallel()
	for _, all := range []bool{false, true} {
		reg := sequencer.NewRegistry()
		nothing := func(context.Context) error { return nil }
		says := func(ok bool, err error) sequencer.RegisterOption {
			return sequencer.When(func(context.Context) (bool, error) { return ok, err })
		}
		ops := []sequencer.Operation{
			sequencer.RegisterFunc(reg, "yes", nothing, says(true, nil)),
			sequencer.RegisterFunc(reg, "no", nothing, says(false, nil)),
			sequencer.RegisterFunc(reg, "skips", nothing, says(false, sequencer.Skip("not today"))),
			sequencer.RegisterFunc(reg, "fails", nothing, says(false, errors.New("boom"))), // would be attempted, and fail
			sequencer.RegisterFunc(reg, "elsewhere", nothing, sequencer.Environments("staging")),
		}
		sequencer.RegisterFunc(reg, "20240115120000_yes", nothing)
		sequencer.RegisterFunc(reg, "20240115130000_no", nothing, says(false, nil))
		seq, rec := sequencertest.Recording(t, reg)
		want := []string{"yes", "fails", "yes", "fails", "20240115120000_yes"}
		if all {
			rec.RecordAll()
			want = []string{"yes", "no", "skips", "fails", "elsewhere", "yes", "no", "skips", "fails", "elsewhere", "20240115120000_yes", "20240115130000_no"}
		}
		_, err := seq.DispatchAll(t.Context(), ops...) // S33.4: every path
		for _, op := range ops {
			err = errors.Join(err, seq.ExecuteSync(t.Context(), op))
		}
		_, perr := seq.Process(t.Context(), sequencer.RunOptions{})
		if err = errors.Join(err, perr); err != nil {
			t.Fatal(err)
		}
		if got := rec.Names(); !slices.Equal(got, want) {
			t.Errorf("recorded %v, want %v", got, want)
		}
	}
}

func TestDrainingWaitsInABubbleAndRefusesToOutsideOfIt(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, drain func(testing.TB, *sequencer.Sequencer) int) (int, []time.Duration) {
		t.Helper()
		began := time.Now()
		var starts []time.Duration
		reg := sequencer.NewRegistry()
		op := sequencer.RegisterFunc(reg, "stubborn", func(ctx context.Context) error {
			starts = append(starts, time.Since(began).Truncate(time.Minute))
			if sequencer.Current(ctx).Number == 3 {
				_, err := sequencer.From(ctx).Dispatch(ctx, sequencer.Named("next", nil))
				return err
			}
			return errors.New("boom")
		}, sequencer.Tries(3), sequencer.Backoff(time.Hour, 2*time.Hour))
		sequencer.RegisterFunc(reg, "next", func(context.Context) error { return nil }, sequencer.OnQueue("other"))
		seq := sequencertest.New(t, reg, sequencer.Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if _, err := seq.Dispatch(t.Context(), op); err != nil {
			t.Fatal(err)
		}
		return drain(t, seq), starts
	}
	synctest.Test(t, func(t *testing.T) {
		n, starts := run(t, sequencertest.Drain)
		if want := []time.Duration{0, time.Hour, 3 * time.Hour}; n != 4 || !slices.Equal(starts, want) {
			t.Errorf("%d attempts at %v, want 4, at %v and one in the other queue", n, starts, want)
		}
	})
	if n, _ := run(t, sequencertest.DrainDue); n != 1 {
		t.Errorf("DrainDue made %d attempts, want the one that was due", n)
	}
	f := &fatalSpy{TB: t}
	if _, starts := run(t, func(_ testing.TB, seq *sequencer.Sequencer) int {
		defer func() { _ = recover() }()
		return sequencertest.Drain(f, seq)
	}); len(starts) != 1 || !strings.Contains(f.said, "stubborn is due in ") || !strings.Contains(f.said, "wrap the test in synctest.Test") {
		t.Errorf("outside of a bubble Drain said %q after %v", f.said, starts)
	}
}

// fatalSpy is a test that would end, and notes why.
type fatalSpy struct {
	testing.TB
	said string
}

func (*fatalSpy) Helper() {}
func (s *fatalSpy) Fatalf(format string, args ...any) {
	s.said = fmt.Sprintf(format, args...)
	panic(s.said)
}

func TestDrainingLeavesWhatNobodyHereMayRun(t *testing.T) {
	t.Parallel()
	reg := sequencer.NewRegistry()
	paused := sequencer.RegisterFunc(reg, "paused", func(context.Context) error { return nil }, sequencer.OnQueue("closed"))
	newer := sequencer.RegisterFunc(reg, "newer", func(context.Context) error { return nil }, sequencer.MinBuild(9))
	seq := sequencertest.New(t, reg, sequencer.Config{Build: 1})
	_, err := seq.DispatchAll(t.Context(), paused, newer)
	if err == nil {
		err = seq.Pause(t.Context(), storage.PauseQueue, "closed", "a test")
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := sequencertest.Drain(t, seq); n != 0 {
		t.Errorf("%d attempts, want none", n)
	}
}

func TestWhatWaitsForAPersonStaysUntilHeAnswers_A1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := sequencer.NewRegistry()
		ran := 0
		op := sequencer.RegisterFunc(reg, "refund", func(context.Context) error { ran++; return nil }, sequencer.ApprovedBy("finance"))
		seq := sequencertest.New(t, reg, sequencer.Config{})
		if _, err := seq.Dispatch(t.Context(), op); err != nil {
			t.Fatal(err)
		}
		if n := sequencertest.Drain(t, seq); n != 0 || ran != 0 {
			t.Fatalf("%d attempts, it ran %d times; want none", n, ran)
		}
		if _, err := seq.Approve(t.Context(), "refund", ""); err != nil {
			t.Fatal(err)
		}
		if n := sequencertest.Drain(t, seq); n != 1 || ran != 1 {
			t.Errorf("approved: %d attempts, it ran %d times; want one", n, ran)
		}
	})
}

func TestAContextIsInsideARealAttempt(t *testing.T) {
	t.Parallel()
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "mail:welcome", sequencer.Make[Welcome])
	var lines strings.Builder
	ctx, seen := sequencertest.Context(t, sequencertest.Attempt{
		Number: 3, Tags: []string{"slow"}, Registry: reg, Logger: slog.New(slog.NewTextHandler(&lines, nil)),
		Limiters: map[string]sequencer.Limiter{"api": sequencer.PerMinute(1)},
	})
	a := sequencer.Current(ctx)
	if a.Number != 3 || !slices.Equal(a.Tags, []string{"slow"}) {
		t.Errorf("attempt %d with tags %v", a.Number, a.Tags)
	}
	var cursor int
	if ok, err := sequencer.Resume(ctx, &cursor); ok || err != nil {
		t.Errorf("Resume found something: %v, %v", ok, err)
	}
	sequencer.Log(ctx).Info("hello")
	if got := lines.String(); !strings.Contains(got, "hello") || strings.Contains(got, "earlier attempt") {
		t.Errorf("logged %s", got)
	}
	if err := signUp(ctx, sequencer.From(ctx), "ada"); err != nil {
		t.Error(err)
	}
	sequencertest.AssertDispatchedOnce(seen.Dispatched, func(w *Welcome) bool { return w.To == "ada" })
	limited := middleware.RateLimited("api").Wrap(func(context.Context, *sequencer.Attempt) error { return nil })
	if err := limited(ctx, a); err != nil {
		t.Errorf("the first one: %v", err)
	}
	err := limited(ctx, a)
	if row := seen.Ended(err); err == nil || row.State != storage.Pending || row.Attempts() != 3 {
		t.Errorf("refused with %v, then %s after %d attempts; the handler ran, so it costs one", err, row.State, row.Attempts())
	}
}

func TestAnAttemptEndsAsItsHandlerSays(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]storage.State{
		nil: storage.Completed, errors.New("boom"): storage.Pending, sequencer.Release(time.Minute): storage.Pending,
		sequencer.Fail(errors.New("boom")): storage.Failed, sequencer.Skip("no"): storage.Skipped,
	} {
		_, seen := sequencertest.Context(t, sequencertest.Attempt{})
		if got := seen.Ended(err).State; got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

func openSQLite(tb testing.TB) (*sqlite.Store, *sql.DB) {
	tb.Helper()
	store, err := sqlite.Open(tb.Context(), testdb.SQLite(tb), sqlite.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = store.Close() })
	db, err := store.DB()
	if err == nil {
		_, err = store.Setup(tb.Context())
	}
	if err == nil {
		_, err = db.ExecContext(tb.Context(), "CREATE TABLE seats (name TEXT)")
	}
	if err != nil {
		tb.Fatal(err)
	}
	return store, db
}

func reserve(ctx context.Context) error {
	tx, err := sequencer.Tx[*sql.Tx](ctx)
	if err == nil {
		_, err = tx.ExecContext(ctx, "INSERT INTO seats VALUES ('4a')")
	}
	return err
}

func seats(ctx context.Context, db *sql.DB) (any, error) {
	var n int
	err := db.QueryRowContext(ctx, "SELECT count(*) FROM seats").Scan(&n)
	return n, err
}

func TestAnAttemptsTransactionCommitsWithASuccessAlone(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{nil, errors.New("boom")} {
		store, db := openSQLite(t)
		ctx, seen := sequencertest.Context(t, sequencertest.Attempt{Store: store})
		if err := reserve(ctx); err != nil {
			t.Fatal(err)
		}
		seen.Ended(failure)
		n, err := seats(t.Context(), db)
		if want := 1; err != nil || (failure == nil) != (n == want) {
			t.Errorf("ended with %v: %d rows, %v", failure, n, err)
		}
	}
}

// The control: without the transaction the same work is done twice.
func TestAnEffectInTheLedgersTransactionSurvivesEveryDeathOnce(t *testing.T) {
	t.Parallel()
	for _, inTx := range []bool{true, false} {
		_, trials := sequencertest.Crash(t, func(tb testing.TB) sequencertest.World {
			store, db := openSQLite(tb)
			reg := sequencer.NewRegistry()
			sequencer.RegisterFunc(reg, "20240115120000_seat", func(ctx context.Context) error {
				if inTx {
					return reserve(ctx)
				}
				_, err := db.ExecContext(ctx, "INSERT INTO seats VALUES ('4a')")
				return err
			})
			return sequencertest.World{
				Registry: reg, Store: store, Config: sequencer.Config{Logger: slog.New(slog.DiscardHandler)},
				State: func(ctx context.Context) (any, error) { return seats(ctx, db) },
			}
		})
		points := map[string]bool{}
		for _, trial := range trials {
			points[trial.Point] = true
			if inTx && !trial.Converged {
				t.Errorf("killed at %s: %v, %v", trial.Point, trial.State, trial.Err)
			}
		}
		switch {
		case inTx && (!points["Commit#1/before"] || !points["Commit#1/after"] || !points["Begin#1/after"]):
			t.Errorf("it was not killed around its commit: %v", points)
		case !inTx && !slices.ContainsFunc(trials, func(c sequencertest.Trial) bool { return c.Point == "Finish#1/before" && c.State == 2 }):
			t.Errorf("outside of the transaction nothing was done twice: %+v", trials)
		}
	}
}

func TestWhatMayNotBeRepeatedIsSaidToWaitForAPerson(t *testing.T) {
	t.Parallel()
	_, trials := sequencertest.Crash(t, func(testing.TB) sequencertest.World {
		reg := sequencer.NewRegistry()
		sequencer.RegisterFunc(reg, "20240115120000_charge", func(context.Context) error { return nil })
		return sequencertest.World{
			Registry: reg, Config: sequencer.Config{Logger: slog.New(slog.DiscardHandler)},
			State: func(context.Context) (any, error) { return nil, nil },
		}
	})
	i := slices.IndexFunc(trials, func(c sequencertest.Trial) bool { return c.Point == "Finish#1/before" })
	if i < 0 || trials[i].Converged || !errors.Is(trials[i].Err, sequencer.ErrInterrupted) {
		t.Errorf("trials: %+v", trials)
	}
}

func TestALostAttemptsBackoffPassesInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sequencertest.AssertConverges(t, func(testing.TB) sequencertest.World {
			runs := map[int]bool{}
			reg := sequencer.NewRegistry()
			op := sequencer.RegisterFunc(reg, "steps", func(ctx context.Context) error {
				var next int
				if _, err := sequencer.Resume(ctx, &next); err != nil {
					return err
				}
				for ; next < 3; next++ {
					runs[next] = true
					if err := sequencer.Checkpoint(ctx, next+1); err != nil {
						return err
					}
				}
				return nil
			}, sequencer.Backoff(time.Hour), sequencer.RetryFor(24*time.Hour))
			return sequencertest.World{
				Registry: reg, Config: sequencer.Config{Logger: slog.New(slog.DiscardHandler)},
				Given: func(ctx context.Context, seq *sequencer.Sequencer) error { _, err := seq.Dispatch(ctx, op); return err },
				State: func(context.Context) (any, error) { return len(runs), nil },
			}
		})
	})
}
