package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// TestMain lets the test binary be another process: one that sets up a ledger, or
// one that claims, says so, and holds on until it is killed.
func TestMain(m *testing.M) {
	path := os.Getenv("SQLITE_TEST_PATH")
	switch part := os.Getenv("SQLITE_TEST_PART"); part {
	case "":
		os.Exit(m.Run())
	default:
		if err := play(context.Background(), part, path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func play(ctx context.Context, part, path string) error {
	s, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	if part == "setup" {
		_, err := s.Setup(ctx)
		return errors.Join(err, s.Close())
	}
	w := storage.Worker{ID: storage.NewID(), Purpose: "work", PID: os.Getpid()}
	if err := s.Join(ctx, w); err != nil {
		return err
	}
	if err := s.Lock(ctx, storage.LockRequest{Name: "run", Worker: w.ID}); err != nil {
		return err
	}
	got, err := s.Claim(ctx, storage.ClaimRequest{Worker: w.ID, Queues: []string{"default"}, Limit: 10})
	if err != nil {
		return err
	}
	fmt.Println("claimed", len(got.Executions))
	_, _ = os.Stdin.Read(make([]byte, 1)) // until killed
	return nil
}

func TestAWorkerIsDeadWhenItsProcessIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := open(t, path, sqlite.Options{})
	a, b := row("a"), row("b")
	enqueue(t, s, a, b)

	other := child(ctx, t, "claim", path)
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "claimed 2\n" {
		t.Fatalf("the other process said %q, %v", line, err)
	}

	me := join(t, s)
	if got := rescue(t, s, me); len(got) != 0 {
		t.Errorf("rescued %d executions of a process that lives", len(got))
	}
	if err := s.Lock(ctx, storage.LockRequest{Name: "run", Worker: me}); !isLocked(err) {
		t.Errorf("a lock whose holder lives: %v, want a LockedError", err)
	}

	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()

	if err := s.Lock(ctx, storage.LockRequest{Name: "run", Worker: me}); err != nil {
		t.Errorf("a lock whose holder was killed: %v, want it taken over", err)
	}
	got := rescue(t, s, me)
	if len(got) != 2 || got[0].ID != a.ID || got[0].State != storage.Running || got[0].Delivery != 2 || got[0].Excused != 1 {
		t.Errorf("rescued %+v, want both rows as found running, at an excused second delivery", got)
	}
	workers, err := s.Workers(ctx)
	if err != nil || len(workers) != 1 || workers[0].ID != me {
		t.Errorf("workers are %+v, %v, want only the rescuer", workers, err)
	}
}

func TestWorkersOfOneProcessDoNotSeeEachOtherDead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := open(t, path, sqlite.Options{})
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	second := reopen(t, link, sqlite.Options{}) // by another name: the same file locks
	enqueue(t, s, row("a"))
	a, b, c := join(t, s), join(t, s), join(t, second)
	claim(t, s, a, 1)
	if got := rescue(t, s, b); len(got) != 0 {
		t.Errorf("the same Store rescued %d executions of a live worker", len(got))
	}
	if got := rescue(t, second, c); len(got) != 0 {
		t.Errorf("another Store of the process rescued %d executions of a live worker", len(got))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := rescue(t, second, c); len(got) != 1 {
		t.Errorf("after its Store was closed %d executions were rescued, want 1", len(got))
	}
}

func TestFilesOfWorkersGoWithThem(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := open(t, path, sqlite.Options{})
	w := join(t, s)
	if held, err := os.ReadDir(path + "-workers"); err != nil || len(held) != 1 {
		t.Errorf("the directory of file locks holds %v, %v, want one file", held, err)
	}
	if err := s.Leave(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-workers"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of file locks is still there: %v", err)
	}
}

func TestAWorkerThatWasDeclaredDeadHasLostItsLease(t *testing.T) {
	t.Parallel()
	s := ledger(t)
	enqueue(t, s, row("a"))
	me, late := join(t, s), join(t, s)
	if _, err := s.Rescue(t.Context(), storage.RescueRequest{Worker: me, Dead: []storage.ID{late}, Limit: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Renew(t.Context(), storage.RenewRequest{Worker: late}); !errors.Is(err, storage.ErrLeaseLost) {
		t.Errorf("Renew: %v, want ErrLeaseLost", err)
	}
	if _, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: late, Queues: []string{"default"}, Limit: 1}); !errors.Is(err, storage.ErrLeaseLost) {
		t.Errorf("Claim: %v, want ErrLeaseLost", err)
	}
}

func join(tb testing.TB, s storage.Store) storage.ID {
	tb.Helper()
	w := storage.Worker{ID: storage.NewID(), Purpose: "work"}
	if err := s.Join(tb.Context(), w); err != nil {
		tb.Fatalf("join: %v", err)
	}
	return w.ID
}

func claim(tb testing.TB, s storage.Store, worker storage.ID, want int) []storage.Execution {
	tb.Helper()
	got, err := s.Claim(tb.Context(), storage.ClaimRequest{Worker: worker, Queues: []string{"default"}, Limit: 100})
	if err != nil || len(got.Executions) != want {
		tb.Fatalf("claimed %d executions, %v, want %d", len(got.Executions), err, want)
	}
	return got.Executions
}

func rescue(tb testing.TB, s storage.Store, worker storage.ID) []storage.Execution {
	tb.Helper()
	got, err := s.Rescue(tb.Context(), storage.RescueRequest{Worker: worker, Limit: 100})
	if err != nil {
		tb.Fatalf("rescue: %v", err)
	}
	return got
}

func isLocked(err error) bool {
	_, ok := errors.AsType[*storage.LockedError](err)
	return ok
}
