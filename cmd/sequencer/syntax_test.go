package main

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/internal/testdb"
)

func TestStatementsEndAtTheirSemicolons(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]statement{
		"":                                nil,
		" ;; -- nothing; at all\n/* ; */": nil,
		"select 1":                        {{1, "select 1"}},
		"select 1;\n\nselect 2; ":         {{1, "select 1;"}, {3, "select 2;"}},
		"-- a; b\nselect 'a;b', \";\", [;], `;`;": {{2, "select 'a;b', \";\", [;], `;`;"}},
		"select 'it''s; here'; x":                 {{1, "select 'it''s; here';"}, {1, "x"}},
		"select 'open; ended":                     {{1, "select 'open; ended"}},
		"select /* ; \n */ 1; 2":                  {{1, "select /* ; \n */ 1;"}, {2, "2"}},
		"CREATE TEMP -- ;\nTRIGGER t AFTER INSERT ON a BEGIN\n  SELECT CASE 1 WHEN 1 THEN 2 END; DELETE FROM a;\nEND;\nselect 1;": {
			{1, "CREATE TEMP -- ;\nTRIGGER t AFTER INSERT ON a BEGIN\n  SELECT CASE 1 WHEN 1 THEN 2 END; DELETE FROM a;\nEND;"},
			{5, "select 1;"},
		},
		"create table trigger_log (end int); select 1;": {{1, "create table trigger_log (end int);"}, {1, "select 1;"}},
	} {
		if diff := cmp.Diff(want, statements(text), cmp.AllowUnexported(statement{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// What cannot be read is found, and what merely cannot be run here is left alone.
func TestSyntaxIsCheckedWithoutRunningAnything(t *testing.T) {
	t.Parallel()
	onServer := func(t *testing.T) (func(context.Context, string) error, *sql.DB) {
		t.Helper()
		db, err := sql.Open("pgx", testdb.Postgres(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return postgresSyntax(db), db
	}
	inMemory := func(*testing.T) (func(context.Context, string) error, *sql.DB) { return sqliteSyntax, nil }
	for name, open := range map[string]func(*testing.T) (func(context.Context, string) error, *sql.DB){"sqlite": inMemory, "postgres": onServer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check, db := open(t)
			for _, fine := range []string{
				"", "-- nothing", "select 1", "insert into nowhere values (1); select * from nobody;", "drop table a; commit; rollback;", "vacuum;",
				"create table made (x int); insert into made values (';');", "select 'quoted; text' -- and; more\n;",
				map[string]string{
					"sqlite":   "create trigger t after insert on a begin delete from a; select 1; end; pragma user_version = 3; explain select 1;",
					"postgres": "do $$ begin perform 1; end $$; create function f() returns int language sql as $f$ select 1; $f$;",
				}[name],
			} {
				if err := check(t.Context(), fine); err != nil {
					t.Errorf("%q: %v", fine, err)
				}
			}
			for _, broken := range []string{
				"selekt 1;", "select 1;\nselect from from;", "insert into a values (1", "select 'open", "create table made (x int); select (;",
			} {
				if err := check(t.Context(), broken); err == nil {
					t.Errorf("%q passes", broken)
				}
			}
			if err := check(t.Context(), "select 1;\n\nselekt 2;"); err == nil || !strings.Contains(err.Error(), `"selekt"`) {
				t.Errorf("got %v, want an error that shows the place", err)
			}
			if db != nil {
				if left := list(t, db, "select relname from pg_class where relnamespace = current_schema()::regnamespace"); len(left) != 0 {
					t.Errorf("it made %q", left)
				}
			}
		})
	}
}
