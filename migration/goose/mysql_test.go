package goose_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	pressly "github.com/pressly/goose/v3"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/storage"
)

// mysql stands apart from the databases of each, whose migrations are transactions.
func mysql(t *testing.T) database {
	t.Helper()
	u, err := url.Parse(testdb.MySQL(t))
	if err != nil {
		t.Fatal(err)
	}
	// The session has a zone of its own, as tstamp has none.
	dsn := fmt.Sprintf("%s@tcp(%s)%s?parseTime=true&time_zone=%%27%%2B09:00%%27", u.User, u.Host, u.Path)
	return database{
		db: handle(t, "mysql", dsn), dialect: goose.MySQL, kind: pressly.DialectMySQL,
		list: `SELECT concat('table ', table_name, char(10 using utf8mb4)) FROM information_schema.tables
			WHERE table_schema = database() ORDER BY 1`,
	}
}

// S37.6: what goose has applied is applied, and the rest is applied one by one.
func TestMySQLListsAndAppliesWhatGooseKnows(t *testing.T) {
	t.Parallel()
	d := mysql(t)
	fsys := files("00001_a.sql", "CREATE TABLE a (id integer);", "00002_b.sql", "CREATE TABLE b (id integer);")
	before := open(t, d, fsys, goose.Options{})
	want(t, "before", state(list(t, before)), []string{"1 00001_a alone", "2 00002_b alone"})
	d.tables(t)

	first, err := pressly.NewProvider(d.kind, d.db, fsys, pressly.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	s := open(t, d, fsys, goose.Options{})
	adopted := list(t, s)
	want(t, "adopted", state(adopted), []string{"1 00001_a applied alone", "2 00002_b alone"})
	if at := adopted[0].AppliedAt; time.Since(at).Abs() > time.Minute || at.Location() != time.UTC {
		t.Errorf("AppliedAt = %v, want about now in UTC", at)
	}
	apply(t, s, 2)
	want(t, "after", state(list(t, s)), []string{"1 00001_a applied alone", "2 00002_b applied alone"})
}

// S37.8: what stops the run must say why, and here also that a half stays.
func TestAMySQLMigrationThatFailsHalfWaySaysThatItsHalfStays(t *testing.T) {
	t.Parallel()
	d := mysql(t)
	s := open(t, d, files("1_bad.sql", "CREATE TABLE IF NOT EXISTS a (id integer);\nINSERT INTO missing VALUES (1);"), goose.Options{})
	err := s.Apply(t.Context(), 1, func(context.Context, storage.Tx) error {
		t.Error("record was called in a transaction that does not hold the migration")
		return nil
	})
	if err == nil || !strings.HasPrefix(err.Error(), "migration 1_bad.sql: ") || !strings.Contains(err.Error(), "what it did before stays") {
		t.Errorf("Apply = %v, want the file, the cause, and that its half stays", err)
	}
	want(t, "state", state(list(t, s)), []string{"1 1_bad alone"})
	d.tables(t, "a", "goose_db_version")

	mended := open(t, d, files("1_bad.sql", "CREATE TABLE IF NOT EXISTS a (id integer);\nCREATE TABLE b (id integer);"), goose.Options{})
	apply(t, mended, 1)
	want(t, "mended", state(list(t, mended)), []string{"1 1_bad applied alone"})
	d.tables(t, "a", "b", "goose_db_version")
}
