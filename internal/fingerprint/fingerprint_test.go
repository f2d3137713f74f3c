package fingerprint_test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer/internal/fingerprint"
	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/mysql"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// onEach runs a test in a database with the ledger's tables, of each kind.
func onEach(t *testing.T, test func(t *testing.T, store string, db *sql.DB)) {
	t.Helper()
	run := func(name string, open func(t *testing.T) (storage.Store, func() (*sql.DB, error), error)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			if _, err := s.Setup(t.Context()); err != nil {
				t.Fatal(err)
			}
			db, err := pool()
			if err != nil {
				t.Fatal(err)
			}
			test(t, s.Name(), db)
		})
	}
	run("sqlite", func(t *testing.T) (storage.Store, func() (*sql.DB, error), error) {
		s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"), sqlite.Options{})
		return s, s.DB, err
	})
	run("postgres", func(t *testing.T) (storage.Store, func() (*sql.DB, error), error) {
		s, err := postgres.Open(t.Context(), testdb.Postgres(t), postgres.Options{})
		return s, func() (*sql.DB, error) { return s.DB(), nil }, err
	})
	run("mysql", func(t *testing.T) (storage.Store, func() (*sql.DB, error), error) {
		s, err := mysql.Open(t.Context(), testdb.MySQL(t), mysql.Options{})
		return s, func() (*sql.DB, error) { return s.DB(), nil }, err
	})
}

func TestEveryDifferenceShowsAndNothingElse(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, store string, db *sql.DB) {
		exec := func(statement string) {
			t.Helper()
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		of := func() map[string]string {
			t.Helper()
			p, err := fingerprint.Of(t.Context(), db, store)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if p := of(); len(p) > 0 {
			t.Fatalf("the ledger's own tables are told: %v", p)
		}
		exec("CREATE TABLE a (n INT, s VARCHAR(20))")
		exec("CREATE TABLE b (n INT)")
		exec("INSERT INTO a VALUES (1, 'x'), (2, NULL), (2, NULL)")
		start := of()
		changed := func(what string, statements ...string) {
			t.Helper()
			for _, s := range statements {
				exec(s)
			}
			if maps.Equal(start, of()) {
				t.Errorf("%s does not show", what)
			}
		}
		same := func(what string, statements ...string) {
			t.Helper()
			for _, s := range statements {
				exec(s)
			}
			if now := of(); !maps.Equal(start, now) {
				t.Errorf("%s shows in %v", what, differing(start, now))
			}
		}
		same("nothing")
		changed("a value", "UPDATE a SET s = 'y' WHERE n = 1")
		same("the value of before", "UPDATE a SET s = 'x' WHERE n = 1")
		changed("an empty text in place of none", "UPDATE a SET s = '' WHERE n = 2")
		same("none again, in rows of another order", "DELETE FROM a", "INSERT INTO a VALUES (2, NULL), (1, 'x'), (2, NULL)")
		changed("one of two equal rows less", "DELETE FROM a", "INSERT INTO a VALUES (2, NULL), (1, 'x')")
		changed("as many rows, but others", "INSERT INTO a VALUES (1, 'x')")
		same("back", "DELETE FROM a", "INSERT INTO a VALUES (2, NULL), (1, 'x'), (2, NULL)")
		changed("an index", "CREATE INDEX a_n ON a (n)")
		same("no index", map[bool]string{true: "DROP INDEX a_n ON a", false: "DROP INDEX a_n"}[store == "mysql"])
		changed("a view", "CREATE VIEW v AS SELECT n FROM a")
		same("no view", "DROP VIEW v")
		changed("a table", "CREATE TABLE c (n INT)")
		same("no table", "DROP TABLE c")
		changed("a column", "ALTER TABLE b ADD COLUMN m INT")
	})
}

func differing(a, b map[string]string) []string {
	var names []string
	for name := range a {
		if a[name] != b[name] {
			names = append(names, name)
		}
	}
	return slices.Sorted(slices.Values(names))
}

func TestWhatCountsUpIsNoDifference(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, store string, db *sql.DB) {
		column := map[string]string{"sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT", "postgres": "SERIAL PRIMARY KEY", "mysql": "INT AUTO_INCREMENT PRIMARY KEY"}[store]
		for i, statement := range []string{
			fmt.Sprintf("CREATE TABLE a (id %s, s VARCHAR(20))", column), "INSERT INTO a (s) VALUES ('x')", "DELETE FROM a",
		} {
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(i, err)
			}
		}
		before, err := fingerprint.Of(t.Context(), db, store)
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{"INSERT INTO a (s) VALUES ('x'), ('y')", "DELETE FROM a"} {
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		after, err := fingerprint.Of(t.Context(), db, store)
		if err != nil || !maps.Equal(before, after) {
			t.Errorf("%v shows, %v", differing(before, after), err)
		}
	})
}

func TestALedgerWithoutTablesIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := fingerprint.Of(context.Background(), nil, "redis"); err == nil || !strings.Contains(err.Error(), "no tables to compare") {
		t.Errorf("got %v", err)
	}
}
