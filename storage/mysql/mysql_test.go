package mysql_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/mysql"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store { return ledger(t) })
	storagetest.RunTx(t, func(t *testing.T) storage.TxStore { return ledger(t) })
}

// ledger is an empty one in a database of its own.
func ledger(tb testing.TB) *mysql.Store {
	tb.Helper()
	return setUp(tb, connect(tb, testdb.MySQL(tb)))
}

func setUp(tb testing.TB, s *mysql.Store) *mysql.Store {
	tb.Helper()
	if _, err := s.Setup(tb.Context()); err != nil {
		tb.Fatalf("set up: %v", err)
	}
	return s
}

// connect opens a store that is closed with the test.
func connect(tb testing.TB, url string) *mysql.Store {
	tb.Helper()
	s, err := mysql.Open(tb.Context(), url, mysql.Options{})
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
	_, err = mysql.Open(t.Context(), "mysql://ada:secret@"+address+"/shop", mysql.Options{})
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

func TestFourSetupsAtOnceMakeOneLedger(t *testing.T) {
	t.Parallel()
	url := testdb.MySQL(t)
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
	s := connect(t, testdb.MySQL(t))
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
	url := testdb.MySQL(t)
	setUp(t, connect(t, url))
	db := connect(t, url).DB()
	if _, err := db.ExecContext(t.Context(), `UPDATE sequencer_meta SET version = 9, oldest_compatible = 8`); err != nil {
		t.Fatal(err)
	}
	s := connect(t, url)
	want := storage.Schema{Version: 9, OldestCompatible: 8, Want: 2}
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
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM sequencer_workers`).Scan(&workers); err != nil || workers != 0 {
		t.Errorf("%d workers were written, %v", workers, err)
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
	if diff := cmp.Diff(failure.Message, attempts[0].Message); diff != "" {
		t.Error(diff)
	}
}

func TestAnAddressMayBeAURLOrTheDriversOwn(t *testing.T) {
	t.Parallel()
	url := testdb.MySQL(t)
	setUp(t, connect(t, url))
	user, rest, _ := strings.Cut(strings.TrimPrefix(url, "mysql://"), "@")
	host, database, _ := strings.Cut(rest, "/")
	for _, address := range []string{
		url + "?timeout=5s", strings.Replace(url, "mysql://", "mariadb://", 1), user + "@tcp(" + host + ")/" + database,
	} {
		if found, err := connect(t, address).Schema(t.Context()); err != nil || !found.Usable() {
			t.Errorf("the ledger by another form of its address: %+v, %v", found, err)
		}
	}
	for address, want := range map[string]string{
		"mysql://ada:secret@" + host + "/":       "names no database",
		"mysql://ada:secret@here:many/shop":      "it is no URL",
		"http://ada:secret@" + host + "/shop":    "is not mysql://",
		"ada:secret@tcp(" + host + "shop":        "mysql address",
		"mysql://ada:secret@here/shop?timeout=x": "mysql address",
	} {
		_, err := mysql.Open(t.Context(), address, mysql.Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want an error with %q and without the password", err, want)
		}
	}
}

// Names and keys are equal when their bytes are: not by case, and not up to blanks at
// the end, as the server's collations have it.
func TestNamesAndKeysAreComparedByteByByte(t *testing.T) { // Q4.1, S4.2
	t.Parallel()
	s := ledger(t)
	var rows []storage.Execution
	for _, key := range []string{"k", "K", "k ", "é", "e"} {
		e := job("name " + key)
		e.UniqueKey, e.Queue = key, "queue "+key
		rows = append(rows, e)
	}
	done, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: rows, RefuseDuplicates: true})
	if err != nil || len(done.Receipts) != len(rows) {
		t.Fatalf("%d receipts, %v; want %d", len(done.Receipts), err, len(rows))
	}
	for _, e := range rows {
		for _, f := range []storage.Filter{{Name: e.Name}, {Queue: e.Queue}, {UniqueKey: e.UniqueKey}} {
			if got, err := s.Executions(t.Context(), f); err != nil || len(got) != 1 || got[0].ID != e.ID {
				t.Errorf("%+v finds %d, %v; want the one", f, len(got), err)
			}
		}
		w := worker(t, s)
		got, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: w, Queues: []string{e.Queue}, Limit: 10})
		if err != nil || len(got.Executions) != 1 || got.Executions[0].ID != e.ID {
			t.Errorf("from %q %d were claimed, %v; want the one", e.Queue, len(got.Executions), err)
		}
	}
}

// An input of the greatest size, and of bytes that all need to be escaped, does not fit
// into a message of the server's default size.
func TestTheGreatestInputIsStored(t *testing.T) {
	t.Parallel()
	s := ledger(t)
	rows := []storage.Execution{job("a"), job("large"), job("b")}
	rows[1].Input = make([]byte, storage.MaxInput)
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: rows}); err != nil {
		t.Fatal(err)
	}
	w := worker(t, s)
	got, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 10})
	if err != nil || len(got.Executions) != 3 || len(got.Executions[1].Input) != storage.MaxInput {
		t.Fatalf("claimed %d, %v", len(got.Executions), err)
	}
	var outcomes []storage.Outcome
	for i := range got.Executions {
		c := &got.Executions[i]
		outcomes = append(outcomes, storage.Outcome{ID: c.ID, Delivery: c.Delivery, State: storage.Completed, Of: c, Result: c.Input})
	}
	done, err := s.Finish(t.Context(), storage.FinishRequest{Worker: w, Outcomes: outcomes})
	if err != nil || !done.Applied[1] {
		t.Errorf("finished: %v, %v", done.Applied, err)
	}
}

// A statement about a table commits the transaction it is in. What would then be
// written outside of any is refused.
func TestATransactionThatItsOwnStatementHasCommittedIsRefused(t *testing.T) { // Q9.9
	t.Parallel()
	s := ledger(t)
	enqueue(t, s, 1)
	w := worker(t, s)
	got, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 1})
	if err != nil || len(got.Executions) != 1 {
		t.Fatalf("claimed %d, %v", len(got.Executions), err)
	}
	tx, err := s.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "CREATE TABLE theirs (n INT)"); err != nil {
		t.Fatal(err)
	}
	e := got.Executions[0]
	_, err = s.FinishTx(t.Context(), mysql.Tx(tx), storage.FinishRequest{
		Worker: w, Outcomes: []storage.Outcome{{ID: e.ID, Delivery: e.Delivery, State: storage.Completed}},
	})
	if err == nil || !strings.Contains(err.Error(), "the transaction has ended") {
		t.Errorf("FinishTx: %v, want a refusal", err)
	}
	if rows, err := s.Executions(t.Context(), storage.Filter{IDs: []storage.ID{e.ID}}); err != nil || rows[0].State != storage.Running {
		t.Errorf("the execution is %s, %v; want it running still", rows[0].State, err)
	}
}

// A caller's transaction may be of any isolation, and have a picture of the ledger
// that is too old.
func TestEnqueueTxSeesAKeyThatWasTakenSinceItsTransactionBegan(t *testing.T) { // Q4.11
	t.Parallel()
	url := testdb.MySQL(t)
	s := setUp(t, connect(t, url))
	tx, err := s.DB().BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var n int
	if err := tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM sequencer_live").Scan(&n); err != nil || n != 0 {
		t.Fatalf("%d rows, %v", n, err)
	}
	a, b := job("a"), job("b")
	a.UniqueKey, b.UniqueKey = "k", "k"
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{a}}); err != nil {
		t.Fatal(err)
	}
	done, err := s.EnqueueTx(t.Context(), mysql.Tx(tx), storage.EnqueueRequest{Executions: []storage.Execution{b}})
	if want := (storage.Receipt{ID: b.ID, Duplicate: true, HolderID: a.ID}); err != nil || done.Receipts[0] != want {
		t.Errorf("receipts %+v, %v; want %+v", done.Receipts, err, want)
	}
}

// Whoever closes connections, a server that restarts or a firewall, costs at most the
// calls under way.
func TestConnectionsThatTheServerHasClosedAreReplaced(t *testing.T) {
	t.Parallel()
	url := testdb.MySQL(t)
	s := setUp(t, connect(t, url))
	enqueue(t, s, 10)
	killed := 0
	admin := connect(t, url).DB()
	rows, err := admin.QueryContext(t.Context(), `SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.ExecContext(t.Context(), fmt.Sprintf("KILL CONNECTION %d", id)); err != nil && !strings.Contains(err.Error(), "1094") { // gone by itself
			t.Fatal(err)
		}
		killed++
	}
	if err := rows.Err(); err != nil || killed == 0 {
		t.Fatalf("%d connections were closed, %v", killed, err)
	}
	w := worker(t, s)
	got, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 10})
	if err != nil || len(got.Executions) != 10 {
		t.Errorf("claimed %d, %v; want 10", len(got.Executions), err)
	}
}

// A transaction that another one stands in the way of is tried again, not told of.
func TestTransactionsThatStandInEachOthersWayAreTriedAgain(t *testing.T) {
	t.Parallel()
	s := ledger(t)
	const rounds = 20
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for range rounds {
				a, b := job("a"), job("b")
				a.UniqueKey, b.UniqueKey = "one", "two"
				if i%2 == 1 {
					a.UniqueKey, b.UniqueKey = b.UniqueKey, a.UniqueKey
				}
				if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{a, b}}); err != nil {
					t.Error(err)
				}
				w := worker(t, s)
				got, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 2})
				if err != nil {
					t.Error(err)
				}
				r := storage.FinishRequest{Worker: w}
				for _, e := range got.Executions {
					r.Outcomes = append(r.Outcomes, storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed})
				}
				if _, err := s.Finish(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
