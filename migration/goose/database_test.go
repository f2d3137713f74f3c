package goose_test

import (
	"database/sql"
	"net/url"
	"slices"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	pressly "github.com/pressly/goose/v3"
	_ "modernc.org/sqlite"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/migration/goose"
)

// database is a fresh one and how its dialect says things.
type database struct {
	db        *sql.DB
	dialect   goose.Dialect
	kind      pressly.Dialect
	namespace string
	dsn       string
	slow      string // a statement that takes minutes
	yes, no   string
	noon      string // tstamp at 2024-01-15 12:00 UTC
	list      string // query for "table NAME\n" of everything there is
}

// each runs a test on every database there is.
func each(t *testing.T, test func(t *testing.T, d database)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, sqlite(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, postgres(t))
	})
}

func sqlite(t *testing.T) database {
	t.Helper()
	path := testdb.SQLite(t)
	return database{
		db:      handle(t, "sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)"),
		dialect: goose.SQLite, kind: pressly.DialectSQLite3, namespace: "main", yes: "1", no: "0",
		noon: "datetime('2024-01-15 12:00:00')",
		slow: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 10000000000) SELECT count(*) FROM n;",
		list: `SELECT type || ' ' || name || char(10) FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1`,
	}
}

func postgres(t *testing.T) database {
	t.Helper()
	u, err := url.Parse(testdb.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	schema := q.Get("search_path")
	q.Set("timezone", "Asia/Tokyo") // tstamp has no zone of its own
	u.RawQuery = q.Encode()
	return database{
		db: handle(t, "pgx", u.String()), dsn: u.String(), dialect: goose.Postgres, kind: pressly.DialectPostgres, namespace: schema,
		yes: "true", no: "false", noon: "timestamptz '2024-01-15 12:00:00+00'", slow: "SELECT pg_sleep(300);",
		list: `SELECT CASE relkind WHEN 'r' THEN 'table' ELSE relkind::text END || ' ' || relname || chr(10)
			FROM pg_class WHERE relnamespace = current_schema()::regnamespace ORDER BY 1`,
	}
}

func handle(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(2)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (d database) exec(t *testing.T, query string) {
	t.Helper()
	if _, err := d.db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (d database) count(t *testing.T, table, where string) (n int) {
	t.Helper()
	if err := d.db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table+" WHERE "+where).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (d database) schema(t *testing.T) (all []string) {
	t.Helper()
	rows, err := d.db.QueryContext(t.Context(), d.list)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		all = append(all, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// tables checks that exactly these exist.
func (d database) tables(t *testing.T, names ...string) {
	t.Helper()
	var got []string
	for _, line := range d.schema(t) {
		if name, ok := strings.CutPrefix(line, "table "); ok {
			got = append(got, strings.TrimSpace(name))
		}
	}
	slices.Sort(got)
	slices.Sort(names)
	want(t, "tables", got, names)
}
