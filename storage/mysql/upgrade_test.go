package mysql_test

import (
	"errors"
	"os"
	"testing"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/mysql"
)

func TestSetupUpgradesALedgerOfSchema1(t *testing.T) { // S4.10
	t.Parallel()
	url := testdb.MySQL(t)
	s := connect(t, url)
	several, err := mysql.Open(t.Context(), url, mysql.Options{MultiStatements: true})
	if err != nil {
		t.Fatal(err)
	}
	defer several.Close()
	first, err := os.ReadFile("schema/0001_ledger.sql")
	if err != nil {
		t.Fatal(err)
	}
	flow := storage.NewID()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := several.DB().ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(string(first))
	exec(`INSERT INTO sequencer_flows (id, created_at, build, total, undo_total, kind, method, policy, phase, state)
		VALUES (?, 1, 0, 1, 0, 'batch', '', 'stop', 'forward', 'running')`, flow[:])
	_, err = s.Pauses(t.Context())
	if old, ok := errors.AsType[*storage.SchemaError](err); !ok || old.Schema != (storage.Schema{Version: 1, OldestCompatible: 1, Want: 2}) {
		t.Errorf("before Setup: got %v, want a SchemaError for schema 1", err)
	}
	for range 2 { // the second time as if the first had been broken off at its end
		found, err := s.Setup(t.Context())
		if want := (storage.Schema{Version: 2, OldestCompatible: 2, Want: 2}); err != nil || found != want {
			t.Fatalf("Setup: %+v, %v; want %+v", found, err, want)
		}
		flows, err := s.Flows(t.Context(), storage.FlowFilter{Root: flow})
		if err != nil || len(flows) != 1 || flows[0].RootID != flow || flows[0].Generation != 1 || flows[0].Total != 1 {
			t.Errorf("flows %+v, %v; want the one of before, outermost and in its first generation", flows, err)
		}
		exec(`UPDATE sequencer_meta SET version = 1, oldest_compatible = 1`)
	}
	setUp(t, s)
}
