package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

func TestNothingButSetupCreatesTheFile(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := reopen(t, path, sqlite.Options{})
	for name, call := range map[string]func() error{
		"Executions": func() error { _, err := s.Executions(ctx, storage.Filter{}); return err },
		"Newest":     func() error { _, err := s.Newest(ctx, storage.NewestRequest{}); return err },
		"Enqueue":    func() error { _, err := s.Enqueue(ctx, storage.EnqueueRequest{}); return err },
		"Join":       func() error { return s.Join(ctx, storage.Worker{ID: storage.NewID()}) },
		"Rescue":     func() error { _, err := s.Rescue(ctx, storage.RescueRequest{}); return err },
		"Begin":      func() error { _, err := s.TxKinds()[0].Begin(ctx); return err },
	} {
		if missing, ok := errors.AsType[*storage.SchemaError](call()); !ok || !missing.Missing() {
			t.Errorf("%s on a file that does not exist gave %v, want a SchemaError that says missing", name, call())
		}
	}
	if have, err := s.Schema(ctx); err != nil || have.Version != 0 {
		t.Errorf("Schema is %+v, %v, want version 0", have, err)
	}
	db, err := s.DB()
	if err != nil {
		t.Fatal(err)
	}
	if err := db.PingContext(ctx); err == nil {
		t.Error("the users' handle opened a file that does not exist")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("the directory holds %v, want nothing", left)
	}
	if _, err := s.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Newest(ctx, storage.NewestRequest{}); err != nil {
		t.Errorf("after Setup: %v", err)
	}
}

func TestTroubleWithTheFileNamesItAndTheRemedy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready.db")
	open(t, ready, sqlite.Options{})

	text := filepath.Join(dir, "text.db")
	write(t, text, bytes.Repeat([]byte("this is no database\n"), 100))

	damaged := filepath.Join(dir, "damaged.db")
	whole, err := os.ReadFile(ready)
	if err != nil {
		t.Fatal(err)
	}
	for i := 100; i < len(whole); i++ { // past the file's header
		whole[i] ^= 0xa5
	}
	write(t, damaged, whole)

	use := func(s *sqlite.Store) error {
		if _, err := s.Setup(t.Context()); err != nil {
			return err
		}
		_, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{row("a")}})
		return err
	}
	for _, c := range []struct{ path, file, problem string }{
		{filepath.Join(dir, "no", "such", "x.db"), filepath.Join(dir, "no", "such", "x.db"), "directory that does not exist"},
		{"file:" + ready + "?mode=ro", ready, "read-only"},
		{text, text, "not a SQLite database"},
		{damaged, damaged, "damaged"},
		{dir, dir, "cannot be opened"},
	} {
		err := use(reopen(t, c.path, sqlite.Options{}))
		trouble, ok := errors.AsType[*sqlite.Error](err)
		if !ok || !strings.Contains(err.Error(), c.problem) || trouble.Path != c.file || trouble.Hint() == "" {
			t.Errorf("%s: got %q (%T), want an *Error with a hint that names the file and says %q", c.path, err, err, c.problem)
		}
	}
}

func TestAReadOnlyHandleStillReads(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := open(t, path, sqlite.Options{})
	enqueue(t, s, row("a"))
	got, err := reopen(t, "file:"+path+"?mode=ro", sqlite.Options{}).Executions(t.Context(), storage.Filter{})
	if err != nil || len(got) != 1 {
		t.Errorf("read %d executions, %v, want 1", len(got), err)
	}
}

func TestAPathMayHoldAnyCharacter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b?c#d%41&e=f.db")
	enqueue(t, open(t, path, sqlite.Options{}), row("a"))
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the database is not where it was asked for: %v", err)
	}
}

func TestALedgerThatIsTooNewStaysUntouched(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := open(t, path, sqlite.Options{})
	db, err := s.DB()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(ctx, `UPDATE sequencer_meta SET version = 9, oldest_compatible = 8`); err != nil {
		t.Fatal(err)
	}
	old := reopen(t, path, sqlite.Options{})
	for name, call := range map[string]func() error{
		"Setup":   func() error { _, err := old.Setup(ctx); return err },
		"Newest":  func() error { _, err := old.Newest(ctx, storage.NewestRequest{}); return err },
		"Enqueue": func() error { _, err := old.Enqueue(ctx, storage.EnqueueRequest{}); return err },
	} {
		if tooNew, ok := errors.AsType[*storage.SchemaError](call()); !ok || tooNew.Schema.Version != 9 {
			t.Errorf("%s gave %v, want a SchemaError about version 9", name, call())
		}
	}
	if have, err := old.Schema(ctx); err != nil || have.Version != 9 || have.OldestCompatible != 8 {
		t.Errorf("Schema is %+v, %v, want 9 and 8", have, err)
	}
}

// A newer ledger that still serves this binary is used as it is.
func TestALedgerThatIsNewerButCompatibleIsUsed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	db, err := open(t, path, sqlite.Options{}).DB()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `UPDATE sequencer_meta SET version = 9`); err != nil {
		t.Fatal(err)
	}
	enqueue(t, open(t, path, sqlite.Options{}), row("a"))
}

func TestProcessesMaySetUpAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if out, err := child(t.Context(), t, "setup", path).CombinedOutput(); err != nil {
				t.Errorf("a process could not set up: %v\n%s", err, out)
			}
		})
	}
	all.Wait()
	enqueue(t, reopen(t, path, sqlite.Options{}), row("a"))
}

// child is this test binary as another process that plays a part, see TestMain.
func child(ctx context.Context, t *testing.T, part, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "SQLITE_TEST_PART="+part, "SQLITE_TEST_PATH="+path)
	return cmd
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// row is a plain execution.
func row(name string) storage.Execution {
	return storage.Execution{
		ID: storage.NewID(), Name: name, Kind: storage.Unlisted, Method: "async",
		Queue: "default", Priority: storage.PriorityDefault, OnLoss: storage.LossRetry,
	}
}

func enqueue(tb testing.TB, s storage.Store, rows ...storage.Execution) {
	tb.Helper()
	if _, err := s.Enqueue(tb.Context(), storage.EnqueueRequest{Executions: rows}); err != nil {
		tb.Fatalf("enqueue: %v", err)
	}
}
