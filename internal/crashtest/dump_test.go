//go:build linux

package crashtest_test

import (
	"database/sql"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

// contents is what the user's tables hold, goose's among them, and how each
// operation and migration stands. Two runs that did the same have the same.
func contents(t *testing.T, p place) []string {
	t.Helper()
	var all []string
	look(t, p, func(l *ledger) {
		for _, query := range []string{
			"SELECT 'effect ' || name || ' times ' || count(*) FROM effects GROUP BY name ORDER BY name",
			"SELECT 'setting ' || name || ' is ' || value FROM settings ORDER BY name",
			"SELECT 'applied ' || version_id || ' times ' || count(*) FROM goose_db_version GROUP BY version_id ORDER BY version_id",
		} {
			all = append(all, list(t, l.db, query)...)
		}
		newest, err := l.Newest(t.Context(), storage.NewestRequest{Environment: "test"})
		if err != nil {
			t.Fatal(err)
		}
		var states []string
		for _, row := range newest {
			states = append(states, fmt.Sprintf("%s %s is %s", row.Kind, row.Name, row.State))
		}
		slices.Sort(states)
		all = append(all, states...)
	})
	return all
}

func list(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s differ from those of an undisturbed run (-want +got):\n%s", what, diff)
	}
}

// settled checks that a ledger is consistent and that nothing in it is still going on.
func settled(t *testing.T, p place) {
	t.Helper()
	look(t, p, func(l *ledger) {
		storagetest.Check(t, l.Store)
		for _, f := range flows(t, l) {
			if !f.Over() {
				t.Errorf("%s %s is still %s", f.Kind, f.ID, f.State)
			}
		}
		live, err := l.Executions(t.Context(), storage.Filter{States: []storage.State{storage.Pending, storage.Running}})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range live {
			t.Errorf("%s is still %s", row.Name, row.State)
		}
	})
}

// openRuns are the ids of runs that are going on, or were when their process died.
func openRuns(t *testing.T, p place) []storage.ID {
	t.Helper()
	var ids []storage.ID
	look(t, p, func(l *ledger) {
		schema, err := l.Schema(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !schema.Usable() { // killed before there was a ledger
			return
		}
		for _, f := range flows(t, l) {
			if !f.Over() {
				ids = append(ids, f.ID)
			}
		}
	})
	return ids
}

// wantInterrupted checks that the ledger tells of a run that its process died. Where
// a person, or goose's table, has said since that the step it died in did happen,
// the contract takes the run as ended by that.
func wantInterrupted(t *testing.T, p place, id storage.ID) {
	t.Helper()
	look(t, p, func(l *ledger) {
		for _, f := range flows(t, l) {
			if f.ID == id && f.State != storage.Interrupted && f.Reason != index+" interrupted" {
				t.Errorf("the run whose process died is %s (%s), want interrupted", f.State, f.Reason)
			}
		}
	})
}

func flows(t *testing.T, l *ledger) []storage.Flow {
	t.Helper()
	all, err := l.Flows(t.Context(), storage.FlowFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
