package sqlite_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

func TestSetupUpgradesALedgerOfSchema1(t *testing.T) { // S4.10
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	first, err := os.ReadFile("schema/0001_ledger.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	worker, tagged := storage.NewID(), storage.NewID()
	for _, step := range []struct {
		text string
		args []any
	}{
		{text: string(first)},
		{text: `INSERT INTO sequencer_meta (only_row, version, oldest_compatible) VALUES (1, 1, 1)`},
		{
			text: `INSERT INTO sequencer_workers (id, purpose, actor, hostname, boot, pid, pid_start, build, version, queues, slots, joined_at)
				VALUES (?, 'work', 'ada', 'lab', '', 1, '', 0, '', '', 1, 1)`,
			args: []any{worker[:]},
		},
		{
			text: `INSERT INTO sequencer_executions (id, name, kind, method, actor, queue, priority, state, created_at, member, position,
					delay_us, retry_for_us, unique_for_us, holds_key, on_loss, min_build, undoable, allowed_to_fail, checksum, tags)
				VALUES (?, 'report', 'unlisted', 'async', 'ada', 'default', 2, 'completed', 7, '', 0, 0, 0, 0, 0, 'retry', 0, 0, 0, '', '["vip"]')`,
			args: []any{tagged[:]},
		},
		{text: `INSERT INTO sequencer_tags (tag, execution_id) VALUES ('vip', ?)`, args: []any{tagged[:]}},
	} {
		if _, err := db.ExecContext(t.Context(), step.text, step.args...); err != nil {
			t.Fatal(err)
		}
	}
	s := reopen(t, path, sqlite.Options{})
	_, err = s.Pauses(t.Context())
	if old, ok := errors.AsType[*storage.SchemaError](err); !ok || old.Schema != (storage.Schema{Version: 1, OldestCompatible: 1, Want: 3}) {
		t.Errorf("before Setup: got %v, want a SchemaError for schema 1", err)
	}
	for range 2 {
		found, err := s.Setup(t.Context())
		if want := (storage.Schema{Version: 3, OldestCompatible: 3, Want: 3}); err != nil || found != want {
			t.Fatalf("Setup: %+v, %v; want %+v", found, err, want)
		}
	}
	workers, err := s.Workers(t.Context())
	if err != nil || len(workers) != 1 || workers[0].ID != worker || len(workers[0].Names) != 0 {
		t.Errorf("workers %+v, %v; want the one of before, without names", workers, err)
	}
	if found, err := s.Executions(t.Context(), storage.Filter{Tag: "vip"}); err != nil || len(found) != 1 || found[0].ID != tagged {
		t.Errorf("%d executions have the tag of before, %v; want that one", len(found), err)
	}
	if err := s.Announce(t.Context(), storage.AnnounceRequest{Schedules: []storage.Schedule{{Name: "nightly"}}}); err != nil {
		t.Errorf("Announce: %v", err)
	}
}
