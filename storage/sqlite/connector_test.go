package sqlite

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/gosequencer/sequencer/storage"
)

func TestAHandleOpenedBeforeTheFileExistsCanWriteOnceItDoes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "later.db")
	open := func() *Store {
		s, err := Open(t.Context(), path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	early := open()
	db, err := early.DB()
	if err != nil {
		t.Fatal(err)
	}
	var missing missingFile
	if err := db.PingContext(t.Context()); !errors.As(err, &missing) {
		t.Fatalf("a connection to no file: %v, want that it is missing, and none in the pool", err)
	}
	if _, err := open().Setup(t.Context()); err != nil { // another process
		t.Fatal(err)
	}
	if err := early.Join(t.Context(), storage.Worker{ID: storage.NewID()}); err != nil {
		t.Errorf("writing through the early handle: %v", err)
	}
}
