package postgres_test

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store { return ledger(t) })
	storagetest.RunTx(t, func(t *testing.T) storage.TxStore { return ledger(t) })
}

// Behind a pooler that shares connections between transactions nothing may stay
// prepared: the same promises must hold in the other modes of the protocol.
func TestConformanceWithoutPreparedStatements(t *testing.T) {
	if testing.Short() {
		t.Skip("the suite twice more")
	}
	for _, mode := range []string{"exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			open := func(t *testing.T) *postgres.Store {
				return setUp(t, connect(t, testdb.Postgres(t)+"&default_query_exec_mode="+mode))
			}
			storagetest.Run(t, func(t *testing.T) storage.Store { return open(t) })
			storagetest.RunTx(t, func(t *testing.T) storage.TxStore { return open(t) })
		})
	}
}

// ledger is an empty one in a schema of its own.
func ledger(tb testing.TB) *postgres.Store {
	tb.Helper()
	return setUp(tb, connect(tb, testdb.Postgres(tb)))
}

func setUp(tb testing.TB, s *postgres.Store) *postgres.Store {
	tb.Helper()
	if _, err := s.Setup(tb.Context()); err != nil {
		tb.Fatalf("set up: %v", err)
	}
	return s
}

// connect opens a store that is closed with the test.
func connect(tb testing.TB, url string) *postgres.Store {
	tb.Helper()
	s, err := postgres.Open(tb.Context(), url, postgres.Options{})
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

func TestOpenNamesTheServerThatDoesNotAnswerAndNotThePassword(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = postgres.Open(t.Context(), "postgres://ada:secret@"+address+"/shop", postgres.Options{})
	if err == nil {
		t.Fatal("open without a server gave no error")
	}
	for _, want := range []string{address, `"shop"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%q tells the password", err)
	}
}

func TestOpenDoesNotTellThePasswordOfAnAddressItCannotRead(t *testing.T) {
	t.Parallel()
	_, err := postgres.Open(t.Context(), "postgres://ada:secret@here:many/shop", postgres.Options{})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func TestFourSetupsAtOnceMakeOneLedger(t *testing.T) {
	t.Parallel()
	url := testdb.Postgres(t)
	var all sync.WaitGroup
	for range 4 {
		s := connect(t, url)
		all.Go(func() {
			if found, err := s.Setup(t.Context()); err != nil || !found.Usable() {
				t.Errorf("setup: %+v, %v", found, err)
			}
		})
	}
	all.Wait()
}

func TestWithoutALedgerEveryVerbSaysSo(t *testing.T) {
	t.Parallel()
	s := connect(t, testdb.Postgres(t))
	_, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{job("a")}})
	if missing, ok := errors.AsType[*storage.SchemaError](err); !ok || !missing.Missing() {
		t.Errorf("enqueue: got %v, want a SchemaError for a missing ledger", err)
	}
	setUp(t, s) // the refusal is not remembered
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{job("a")}}); err != nil {
		t.Errorf("enqueue after setup: %v", err)
	}
}

func TestALedgerThatIsTooNewStaysUntouched(t *testing.T) {
	t.Parallel()
	url := testdb.Postgres(t)
	setUp(t, connect(t, url))
	pool := pool(t, url)
	if _, err := pool.Exec(t.Context(), `UPDATE sequencer_meta SET version = 9, oldest_compatible = 8`); err != nil {
		t.Fatal(err)
	}
	s := connect(t, url)
	want := storage.Schema{Version: 9, OldestCompatible: 8, Want: 3}
	refused := func(verb string, err error) {
		t.Helper()
		if e, ok := errors.AsType[*storage.SchemaError](err); !ok || e.Schema != want {
			t.Errorf("%s: got %v, want a SchemaError with %+v", verb, err, want)
		}
	}
	_, err := s.Setup(t.Context())
	refused("setup", err)
	refused("join", s.Join(t.Context(), storage.Worker{ID: storage.NewID()}))
	if got, err := s.Schema(t.Context()); err != nil || got != want {
		t.Errorf("schema afterwards: %+v, %v, want %+v", got, err, want)
	}
	var workers int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM sequencer_workers`).Scan(&workers); err != nil || workers != 0 {
		t.Errorf("%d workers were written, %v", workers, err)
	}
}

// A ledger further down the search path belongs to somebody else.
func TestALedgerBehindTheFirstSchemaOfTheSearchPathIsNotOurs(t *testing.T) {
	t.Parallel()
	theirs, ours := testdb.Postgres(t), testdb.Postgres(t)
	setUp(t, connect(t, theirs))
	path := schemaOf(t, ours)
	s := connect(t, strings.Replace(ours, path, path+"%2C"+schemaOf(t, theirs), 1))
	if found, err := s.Schema(t.Context()); err != nil || found.Version != 0 {
		t.Errorf("schema: %+v, %v, want none", found, err)
	}
	setUp(t, s)
	enqueue(t, s, 1)
	if got, err := connect(t, theirs).Executions(t.Context(), storage.Filter{}); err != nil || len(got) != 0 {
		t.Errorf("their ledger has %d executions, %v, want none", len(got), err)
	}
}

func TestEightClaimersNeverGetTheSameRow(t *testing.T) {
	t.Parallel()
	const rows, claimers = 2_000, 8
	s := ledger(t)
	enqueue(t, s, rows)
	var (
		mu   sync.Mutex // guards seen
		seen = map[storage.ID]int{}
		all  sync.WaitGroup
	)
	for range claimers {
		w := worker(t, s)
		all.Go(func() {
			for {
				got, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 50})
				if err != nil {
					t.Error(err)
				}
				if len(got.Executions) == 0 {
					return
				}
				mu.Lock()
				for _, e := range got.Executions {
					seen[e.ID]++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
	// A claim that met only rows in other hands may have given up: the rest is still due.
	w := worker(t, s)
	got, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: rows})
	if err != nil || len(seen)+len(got.Executions) != rows {
		t.Errorf("%d claimed and %d left, %v, want %d together", len(seen), len(got.Executions), err, rows)
	}
}

func TestAWorkerThatWasRescuedCannotFinish(t *testing.T) {
	t.Parallel()
	s := ledger(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	slow, rescuer := storage.NewID(), storage.NewID()
	join := func(id storage.ID, lease time.Duration) {
		t.Helper()
		if err := s.Join(t.Context(), storage.Worker{ID: id, Lease: lease, JoinedAt: now}); err != nil {
			t.Fatal(err)
		}
	}
	join(slow, 10*time.Second)
	join(rescuer, time.Hour)
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Now: now, Executions: []storage.Execution{job("a")}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(t.Context(), storage.ClaimRequest{Now: now, Worker: slow, Queues: []string{"default"}, Limit: 1})
	if err != nil || len(got.Executions) != 1 {
		t.Fatalf("claimed %d, %v", len(got.Executions), err)
	}
	outcome := storage.Outcome{ID: got.Executions[0].ID, Delivery: got.Executions[0].Delivery, State: storage.Completed}

	rescue := func(at time.Time) []storage.Execution {
		t.Helper()
		taken, err := s.Rescue(t.Context(), storage.RescueRequest{Now: at, Worker: rescuer, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		return taken
	}
	if taken := rescue(now.Add(9 * time.Second)); len(taken) != 0 {
		t.Fatalf("%d rescued before the lease was over", len(taken))
	}
	if taken := rescue(now.Add(10 * time.Second)); len(taken) != 1 || taken[0].State != storage.Running {
		t.Fatalf("rescued %+v, want the one that ran", taken)
	}
	done, err := s.Finish(t.Context(), storage.FinishRequest{Now: now.Add(11 * time.Second), Worker: slow, Outcomes: []storage.Outcome{outcome}})
	if err != nil || done.Applied[0] {
		t.Errorf("the late finish: %+v, %v, want it void", done.Applied, err)
	}
	if _, err := s.Renew(t.Context(), storage.RenewRequest{Now: now.Add(11 * time.Second), Worker: slow, Lease: time.Minute}); !errors.Is(err, storage.ErrLeaseLost) {
		t.Errorf("the late renewal: %v, want ErrLeaseLost", err)
	}
}

func TestAnythingAHandlerSaysCanBeRecorded(t *testing.T) {
	t.Parallel()
	s := ledger(t)
	enqueue(t, s, 1)
	w := worker(t, s)
	got, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 1})
	if err != nil || len(got.Executions) != 1 {
		t.Fatalf("claimed %d, %v", len(got.Executions), err)
	}
	e := got.Executions[0]
	failure := &storage.Failure{Outcome: "error", Type: "x", Message: "zero \x00 and half a rune \xe2\x82", Trace: "\xff", Context: `{}`, Group: "g"}
	_, err = s.Finish(t.Context(), storage.FinishRequest{
		Worker:   w,
		Outcomes: []storage.Outcome{{ID: e.ID, Delivery: e.Delivery, State: storage.Failed, Failure: failure, Reason: "\x00"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	attempts, err := s.Attempts(t.Context(), e.ID)
	if err != nil || len(attempts) != 1 {
		t.Fatalf("attempts: %+v, %v", attempts, err)
	}
	if diff := cmp.Diff("zero \uFFFD and half a rune \uFFFD", attempts[0].Message); diff != "" {
		t.Error(diff)
	}
}

// pool connects without a store.
func pool(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	p, err := pgxpool.New(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}

func schemaOf(tb testing.TB, url string) string {
	tb.Helper()
	var name string
	if err := pool(tb, url).QueryRow(tb.Context(), `SELECT current_schema()`).Scan(&name); err != nil {
		tb.Fatal(err)
	}
	return name
}
