package goose_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	pressly "github.com/pressly/goose/v3"

	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/storage"
)

//go:embed testdata
var embedded embed.FS

// wrapped stands for what a ledger's backend makes of a transaction.
type wrapped struct{ tx *sql.Tx }

func (w wrapped) Native() any { return w.tx }

func wrap(tx *sql.Tx) storage.Tx { return wrapped{tx} }

// files makes a file system of names and texts; "-- +goose Up" is added on top.
func files(pairs ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + pairs[i+1] + "\n")}
	}
	return m
}

func open(t *testing.T, d database, fsys fs.FS, o goose.Options) *goose.Source {
	t.Helper()
	if o.Tx == nil {
		o.Tx = wrap
	}
	s, err := goose.New(d.dialect, d.db, fsys, o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return s
}

func list(t *testing.T, s *goose.Source) []migration.Migration {
	t.Helper()
	ms, err := s.Migrations(t.Context())
	if err != nil {
		t.Fatalf("Migrations: %v", err)
	}
	return ms
}

func apply(t *testing.T, s *goose.Source, versions ...int64) {
	t.Helper()
	for _, v := range versions {
		if err := s.Apply(t.Context(), v, func(context.Context, storage.Tx) error { return nil }); err != nil {
			t.Fatalf("Apply(%d): %v", v, err)
		}
	}
}

// state sums a listing up: "1 a applied".
func state(ms []migration.Migration) []string {
	var lines []string
	for _, m := range ms {
		line := fmt.Sprintf("%d %s", m.Version, m.Name)
		if m.Applied() {
			line += " applied"
		}
		if m.Missing {
			line += " missing"
		}
		if !m.Transactional {
			line += " alone"
		}
		lines = append(lines, line)
	}
	return lines
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// S37.6: a source lists by version and applies single ones.
func TestListingSortsByVersionAndKnowsWhatIsApplied(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		const body = "CREATE TABLE a (id integer);"
		fsys := files("10_ten.sql", "CREATE TABLE c (id integer);", "2_two.sql", "CREATE TABLE b (id integer);",
			"00001_one.sql", body, "20240115120000_users.sql", "CREATE TABLE users (id integer);")
		s := open(t, d, fsys, goose.Options{})
		want(t, "before", state(list(t, s)), []string{"1 00001_one", "2 2_two", "10 10_ten", "20240115120000 20240115120000_users"})

		start := time.Now()
		apply(t, s, 20240115120000, 1) // any order: what is pending in between does not matter
		ms := list(t, s)
		want(t, "after", state(ms),
			[]string{"1 00001_one applied", "2 2_two", "10 10_ten", "20240115120000 20240115120000_users applied"})

		sum := sha256.Sum256([]byte("-- +goose Up\n" + body + "\n"))
		want(t, "checksum", ms[0].Checksum, hex.EncodeToString(sum[:]))
		want(t, "path", ms[0].Path, "00001_one.sql")
		if at := ms[0].AppliedAt; at.Before(start.Add(-time.Minute)) || at.After(time.Now().Add(time.Minute)) || at.Location() != time.UTC {
			t.Errorf("AppliedAt = %v, want about %v in UTC", at, start.UTC())
		}
		d.tables(t, "a", "users", "goose_db_version")
	})
}

func TestListingWritesNothingWhenGoosesTableIsMissing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		s := open(t, d, files("1_a.sql", "SELECT 1;"), goose.Options{})
		before := d.schema(t)
		want(t, "listing", state(list(t, s)), []string{"1 1_a"})
		if err := s.Apply(t.Context(), 7, nil); !errors.Is(err, migration.ErrUnknown) {
			t.Errorf("Apply of no version = %v, want ErrUnknown", err)
		}
		want(t, "schema", d.schema(t), before)
		d.tables(t)
	})
}

func TestListingReportsAnErrorThatIsNotAMissingTable(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		d.exec(t, "CREATE TABLE goose_db_version (something integer)")
		s := open(t, d, nil, goose.Options{})
		if ms, err := s.Migrations(t.Context()); err == nil {
			t.Errorf("Migrations = %v, want an error", ms)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Migrations(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Migrations with a cancelled context = %v", err)
		}
	})
}

func TestNoMigrationsAtAll(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		for name, fsys := range map[string]fs.FS{
			"nil":       nil,
			"empty":     fstest.MapFS{},
			"subfolder": fstest.MapFS{"deeper/1_a.sql": &fstest.MapFile{}},
			"no sql":    fstest.MapFS{"README.md": &fstest.MapFile{}, "helpers.go": &fstest.MapFile{}, "1_a_test.go": &fstest.MapFile{}},
		} {
			want(t, name, state(list(t, open(t, d, fsys, goose.Options{}))), []string(nil))
		}
		s := open(t, d, fstest.MapFS{}, goose.Options{Go: []*pressly.Migration{pressly.NewGoMigration(3, nil, nil)}})
		apply(t, s, 3)
		want(t, "Go alone", state(list(t, s)), []string{"3 3_go applied"})
	})
}

func TestEmbeddedAndOnDiskFilesAreTheSame(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		sub, err := fs.Sub(embedded, "testdata")
		if err != nil {
			t.Fatal(err)
		}
		fromEmbed, fromDisk := open(t, d, sub, goose.Options{}), open(t, d, os.DirFS("testdata"), goose.Options{})
		want(t, "listing", list(t, fromDisk), list(t, fromEmbed))
		apply(t, fromEmbed, 20240115120000)
		apply(t, fromDisk, 20240115120100)
		want(t, "applied", state(list(t, fromDisk)),
			[]string{"20240115120000 20240115120000_create_users applied", "20240115120100 20240115120100_add_email applied"})
		d.exec(t, "INSERT INTO users (id, email) VALUES (1, 'a')")
	})
}

// S37.6: Go functions beside SQL files.
func TestGoMigrationsRunWithAndWithoutTransaction(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		run := func(ctx context.Context, db interface {
			ExecContext(context.Context, string, ...any) (sql.Result, error)
		}, query string,
		) error {
			_, err := db.ExecContext(ctx, query)
			return err
		}
		named := pressly.NewGoMigration(3, nil, nil)
		named.Source = "sub/00003_nothing.go"
		s := open(t, d, files("2_b.sql", "CREATE TABLE b (id integer);"), goose.Options{Go: []*pressly.Migration{
			named,
			pressly.NewGoMigration(4, &pressly.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
				return run(ctx, db, "CREATE TABLE c (id integer)")
			}}, nil),
			pressly.NewGoMigration(1, &pressly.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
				return run(ctx, tx, "CREATE TABLE a (id integer)")
			}}, nil),
		}})
		want(t, "before", state(list(t, s)), []string{"1 1_go", "2 2_b", "3 00003_nothing", "4 4_go alone"})
		var recorded []int64
		for _, v := range []int64{1, 2, 3, 4} {
			if err := s.Apply(t.Context(), v, func(context.Context, storage.Tx) error {
				recorded = append(recorded, v)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		want(t, "recorded", recorded, []int64{1, 2, 3})
		want(t, "after", state(list(t, s)), []string{"1 1_go applied", "2 2_b applied", "3 00003_nothing applied", "4 4_go applied alone"})
		d.tables(t, "a", "b", "c", "goose_db_version")
	})
}

// S37.6: in one transaction where the dialect allows.
func TestRecordSharesTheMigrationsTransaction(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		d.exec(t, "CREATE TABLE ledger (version integer)")
		goTx := pressly.NewGoMigration(2, &pressly.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "CREATE TABLE b (id integer)")
			return err
		}}, nil)
		s := open(t, d, files("1_a.sql", "CREATE TABLE a (id integer);"), goose.Options{Go: []*pressly.Migration{goTx}})
		for v, table := range map[int64]string{1: "a", 2: "b"} {
			record := func(ctx context.Context, tx storage.Tx) error {
				_, err := tx.Native().(*sql.Tx).ExecContext(ctx, fmt.Sprintf("INSERT INTO ledger SELECT %d WHERE NOT EXISTS (SELECT 1 FROM %s)", v, table))
				return err
			}
			refused := errors.New("the ledger\nrefuses")
			err := s.Apply(t.Context(), v, func(ctx context.Context, tx storage.Tx) error {
				return errors.Join(record(ctx, tx), refused)
			})
			if !errors.Is(err, refused) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Apply = %q, want the record function's error on one line", err)
			}
			want(t, "ledger after a refusal", d.count(t, "ledger", fmt.Sprintf("version = %d", v)), 0)
			want(t, "goose after a refusal", d.count(t, "goose_db_version", fmt.Sprintf("version_id = %d", v)), 0)
			if strings.Contains(strings.Join(d.schema(t), "\n"), "table "+table+"\n") {
				t.Errorf("table %s is there after a refusal", table)
			}

			// Control: the same record function without the refusal.
			if err := s.Apply(t.Context(), v, record); err != nil {
				t.Fatalf("Apply(%d): %v", v, err)
			}
			want(t, "ledger", d.count(t, "ledger", fmt.Sprintf("version = %d", v)), 1)
			want(t, "goose", d.count(t, "goose_db_version", fmt.Sprintf("version_id = %d", v)), 1)
			d.exec(t, "SELECT 1 FROM "+table)
		}
	})
}

func TestRecordPanicsAreLoudAndUndoTheMigration(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		s := open(t, d, files("1_a.sql", "CREATE TABLE a (id integer);"), goose.Options{})
		func() {
			defer func() {
				if p := recover(); p != "ours" {
					t.Errorf("recovered %v, want the record function's panic", p)
				}
			}()
			_ = s.Apply(t.Context(), 1, func(context.Context, storage.Tx) error { panic("ours") })
		}()
		d.tables(t, "goose_db_version")
		apply(t, s, 1)
	})
}

func TestNoTransactionRunsAloneAndLeavesWhatItDid(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		s := open(t, d, files(
			"1_ok.sql", "-- +goose no transaction\nCREATE TABLE a (id integer);",
			"2_bad.sql", "-- +goose NO TRANSACTION\nCREATE TABLE b (id integer);\nINSERT INTO missing VALUES (1);"), goose.Options{})
		record := func(context.Context, storage.Tx) error { return errors.New("called") }
		if err := s.Apply(t.Context(), 1, record); err != nil {
			t.Errorf("Apply(1): %v", err)
		}
		err := s.Apply(t.Context(), 2, record)
		if err == nil || !strings.Contains(err.Error(), "2_bad.sql") || !strings.Contains(err.Error(), "outside a transaction") {
			t.Errorf("Apply(2) = %v, want an error that names the file and says what stays", err)
		}
		want(t, "state", state(list(t, s)), []string{"1 1_ok applied alone", "2 2_bad alone"})
		d.tables(t, "a", "b", "goose_db_version")
	})
}

// S37.8: what stops the run must say why and leave no half.
func TestFailingSQLLeavesNothingAndSaysWhy(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		s := open(t, d, files("1_bad.sql", "CREATE TABLE a (id integer);\nINSERT INTO missing VALUES (1);",
			"2_unparsable.sql", "CREATE TABLE b (id integer)"), goose.Options{})
		called := false
		err := s.Apply(t.Context(), 1, func(context.Context, storage.Tx) error { called = true; return nil })
		if err == nil || !strings.HasPrefix(err.Error(), "migration 1_bad.sql: ") ||
			!strings.Contains(err.Error(), "missing") || strings.Contains(err.Error(), "partial") || strings.Contains(err.Error(), "\n") {
			t.Errorf("Apply = %q, want one line with the file and the cause", err)
		}
		t.Log(err)
		err = s.Apply(t.Context(), 2, nil)
		if err == nil || !strings.Contains(err.Error(), "2_unparsable.sql") || strings.Contains(err.Error(), "\n") {
			t.Errorf("Apply = %q, want one line that names the file", err)
		}
		t.Log(err)
		if called {
			t.Error("record was called for a migration that failed")
		}
		want(t, "state", state(list(t, s)), []string{"1 1_bad", "2 2_unparsable"})
		d.tables(t, "goose_db_version")
	})
}

func TestApplyRefusesWhatIsAppliedOrUnknown(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		fsys := files("1_a.sql", "CREATE TABLE a (id integer);", "2_gone.sql", "CREATE TABLE b (id integer);")
		apply(t, open(t, d, fsys, goose.Options{}), 1, 2)
		delete(fsys, "2_gone.sql")
		s := open(t, d, fsys, goose.Options{})
		want(t, "state", state(list(t, s)), []string{"1 1_a applied", "2 2 applied missing alone"})
		for version, target := range map[int64]error{
			-1: migration.ErrUnknown, 0: migration.ErrUnknown, 1: migration.ErrApplied, 2: migration.ErrApplied, 3: migration.ErrUnknown,
		} {
			if err := s.Apply(t.Context(), version, nil); !errors.Is(err, target) {
				t.Errorf("Apply(%d) = %v, want %v", version, err, target)
			}
		}
	})
}

func TestPanicInAGoMigrationIsAFailure(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		s := open(t, d, nil, goose.Options{Go: []*pressly.Migration{
			pressly.NewGoMigration(1, &pressly.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
				if _, err := tx.ExecContext(ctx, "CREATE TABLE a (id integer)"); err != nil {
					return err
				}
				panic("boom")
			}}, nil),
			pressly.NewGoMigration(2, &pressly.GoFunc{RunDB: func(context.Context, *sql.DB) error { panic("boom") }}, nil),
		}})
		for v, text := range map[int64]string{
			1: "migration 1_go: panic: boom",
			2: "migration 2_go: panic: boom (it runs outside a transaction: what it did before stays)",
		} {
			err := s.Apply(t.Context(), v, nil)
			p, ok := errors.AsType[*goose.PanicError](err)
			if !ok || err.Error() != text || !strings.Contains(string(p.Stack), "goose_test.go") {
				t.Errorf("Apply(%d) = %v, want %q with a stack", v, err, text)
			}
		}
		d.tables(t, "goose_db_version")
	})
}

func TestDeadlineEndsAMigration(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		s := open(t, d, files("1_slow.sql", "CREATE TABLE a (id integer);\n"+d.slow), goose.Options{})
		apply(t, open(t, d, nil, goose.Options{Go: []*pressly.Migration{pressly.NewGoMigration(9, nil, nil)}}), 9)
		cause := errors.New("the lease is lost")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, cause)
		defer cancel()
		start := time.Now()
		err := s.Apply(ctx, 1, nil)
		if !errors.Is(err, cause) || time.Since(start) > 20*time.Second {
			t.Errorf("Apply = %v after %v, want %v at once", err, time.Since(start), cause)
		}
		if strings.Contains(err.Error(), "already been") || strings.Contains(err.Error(), "conn closed") {
			t.Errorf("Apply = %v, want no word of the undone transaction", err)
		}
		t.Log(err)
		d.tables(t, "goose_db_version")
	})
}

func TestAGoMigrationMayUseTheSourceItself(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		var s *goose.Source
		outer := pressly.NewGoMigration(2, &pressly.GoFunc{RunDB: func(ctx context.Context, _ *sql.DB) error {
			return s.Apply(ctx, 1, nil)
		}}, nil)
		s = open(t, d, files("1_a.sql", "CREATE TABLE a (id integer);"), goose.Options{Go: []*pressly.Migration{outer}})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := s.Apply(ctx, 2, nil); err != nil {
			t.Fatal(err)
		}
		want(t, "state", state(list(t, s)), []string{"1 1_a applied", "2 2_go applied alone"})
	})
}

func TestAdoptsWhatGooseHasApplied(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		fsys := files("00001_a.sql", "CREATE TABLE a (id integer);", "00002_b.sql", "CREATE TABLE b (id integer);",
			"00003_c.sql", "CREATE TABLE c (id integer);")
		first, err := pressly.NewProvider(d.kind, d.db, fsys, pressly.WithDisableGlobalRegistry(true))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := first.UpTo(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		s := open(t, d, fsys, goose.Options{})
		want(t, "adopted", state(list(t, s)), []string{"1 00001_a applied", "2 00002_b applied", "3 00003_c"})
		apply(t, s, 3)

		again, err := pressly.NewProvider(d.kind, d.db, fsys, pressly.WithDisableGlobalRegistry(true))
		if err != nil {
			t.Fatal(err)
		}
		if pending, err := again.HasPending(t.Context()); pending || err != nil {
			t.Errorf("goose's HasPending = %v, %v after ours, want false", pending, err)
		}
	})
}

func TestARowOfAnOldDownMeansPending(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		s := open(t, d, files("1_a.sql", "SELECT 1;", "2_b.sql", "SELECT 1;"), goose.Options{})
		apply(t, s, 2)
		d.exec(t, "INSERT INTO goose_db_version (version_id, is_applied, tstamp) VALUES (1, "+d.yes+", "+d.noon+")")
		d.exec(t, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, "+d.no+")")
		ms := list(t, s)
		want(t, "state", state(ms), []string{"1 1_a applied", "2 2_b"})
		want(t, "instant", ms[0].AppliedAt, time.Date(2024, 1, 15, 12, 0, 0, 0, time.UTC))
		apply(t, s, 2)
		want(t, "state", state(list(t, s)), []string{"1 1_a applied", "2 2_b applied"})
	})
}

func TestTableMayHaveAnotherNameAndASchema(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		for i, table := range []string{"My_Versions", d.namespace + ".versions"} {
			name := fmt.Sprintf("t%d", i)
			s := open(t, d, files("1_a.sql", "CREATE TABLE "+name+" (id integer);", "2_b.sql", "SELECT 1;"), goose.Options{Table: table})
			want(t, table, state(list(t, s)), []string{"1 1_a", "2 2_b"})
			apply(t, s, 1, 2)
			want(t, table, state(list(t, s)), []string{"1 1_a applied", "2 2_b applied"})
		}
	})
}

// goose looks for its table in the first schema alone. A listing that followed the
// whole path would call migrations applied that goose then applies.
func TestATableFurtherDownTheSearchPathIsAnothers(t *testing.T) {
	t.Parallel()
	d := postgres(t)
	s := open(t, d, files("1_a.sql", "SELECT 1;"), goose.Options{})
	apply(t, s, 1)
	tenant := d.namespace + "_tenant"
	d.exec(t, "CREATE SCHEMA "+tenant)
	t.Cleanup(func() {
		if _, err := d.db.ExecContext(context.WithoutCancel(t.Context()), "DROP SCHEMA "+tenant+" CASCADE"); err != nil {
			t.Error(err)
		}
	})
	second := d
	second.db = handle(t, "pgx", strings.Replace(d.dsn, "search_path="+d.namespace, "search_path="+tenant+","+d.namespace, 1))
	s2 := open(t, second, files("1_a.sql", "SELECT 1;"), goose.Options{})
	want(t, "before", state(list(t, s2)), []string{"1 1_a"})
	apply(t, s2, 1)
	want(t, "after", state(list(t, s2)), []string{"1 1_a applied"})
	second.tables(t, "goose_db_version")
	want(t, "rows of the other", d.count(t, d.namespace+".goose_db_version", "version_id = 1"), 1)
}

func TestAFailedCommitSaysWhy(t *testing.T) {
	t.Parallel()
	d := postgres(t)
	s := open(t, d, files("1_a.sql", `CREATE TABLE a (id integer PRIMARY KEY);
CREATE TABLE b (id integer REFERENCES a DEFERRABLE INITIALLY DEFERRED);
INSERT INTO b VALUES (1);`), goose.Options{})
	err := s.Apply(t.Context(), 1, nil)
	if err == nil || !strings.Contains(err.Error(), "foreign key") || strings.Contains(err.Error(), "already been") {
		t.Errorf("Apply = %v, want the violation alone", err)
	}
	d.tables(t, "goose_db_version")
}

func TestWithoutTxNothingIsTransactional(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		s, err := goose.New(d.dialect, d.db, files("1_a.sql", "CREATE TABLE a (id integer);\nSELECT * FROM missing;"), goose.Options{})
		if err != nil {
			t.Fatal(err)
		}
		want(t, "state", state(list(t, s)), []string{"1 1_a alone"})
		err = s.Apply(t.Context(), 1, func(context.Context, storage.Tx) error { return errors.New("called") })
		if err == nil || strings.Contains(err.Error(), "outside a transaction") {
			t.Errorf("Apply = %v, want an error: the migration itself is atomic", err)
		}
		d.tables(t, "goose_db_version")
	})
}

func TestAThousandFilesAreListedQuickly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 1000 {
		text := fmt.Sprintf("-- +goose Up\nCREATE TABLE t%d (id integer);\n", i)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d_t.sql", 20240101000000+i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := sqlite(t)
	s := open(t, d, os.DirFS(dir), goose.Options{})
	apply(t, s, 20240101000999)
	start := time.Now()
	ms := list(t, s)
	took := time.Since(start)
	t.Logf("listed in %v", took)
	if len(ms) != 1000 || !ms[999].Applied() || took > 5*time.Second {
		t.Errorf("listed %d migrations in %v", len(ms), took)
	}
}

// S37.7, stricter: a duplicate or a name without version is refused, not skipped.
func TestNewReportsEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	d := sqlite(t)
	bad := pressly.NewGoMigration(0, nil, nil)
	for name, c := range map[string]struct {
		dialect goose.Dialect
		fsys    fs.FS
		o       goose.Options
		want    []string
	}{
		"duplicates":         {goose.SQLite, files("1_a.sql", "", "001_b.sql", ""), goose.Options{}, []string{"001_b.sql", "1_a.sql", "version 1"}},
		"Go and SQL":         {goose.SQLite, files("1_a.sql", ""), goose.Options{Go: []*pressly.Migration{pressly.NewGoMigration(1, nil, nil)}}, []string{"1_a.sql", "1_go"}},
		"names":              {goose.SQLite, files("notes.sql", "", "0_a.sql", "", "12.sql", ""), goose.Options{}, []string{"notes.sql", "0_a.sql", "12.sql"}},
		"unregistered Go":    {goose.SQLite, files("1_a.go", ""), goose.Options{}, []string{"1_a.go", "Options.Go"}},
		"bad Go":             {goose.SQLite, nil, goose.Options{Go: []*pressly.Migration{bad, nil, {Version: 3}}}, []string{"1 of 3", "2 of 3", "3 of 3"}},
		"no such folder":     {goose.SQLite, os.DirFS("nowhere"), goose.Options{}, []string{"list migration files"}},
		"table":              {goose.SQLite, nil, goose.Options{Table: "a; DROP TABLE b"}, []string{"Table", "DROP"}},
		"dialect":            {"oracle", nil, goose.Options{}, []string{"oracle"}},
		"several at a time ": {"oracle", files("notes.sql", ""), goose.Options{Table: "-"}, []string{"oracle", "notes.sql", `"-"`}},
	} {
		_, err := goose.New(c.dialect, d.db, c.fsys, c.o)
		for _, text := range c.want {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: New = %v, want it to name %q", name, err, text)
			}
		}
	}
	if _, err := goose.New(goose.SQLite, nil, nil, goose.Options{}); err == nil {
		t.Error("New without db: want an error")
	}

	// Control: a registered Go migration may have its file beside the SQL.
	registered := goose.Options{Go: []*pressly.Migration{pressly.NewGoMigration(1, nil, nil)}}
	ms := list(t, open(t, d, files("0001_a.go", "", "2_b.sql", ""), registered))
	want(t, "paths", []string{ms[0].Path, ms[0].Name, ms[0].Checksum}, []string{"0001_a.go", "0001_a", ""})
}

func TestNewRefusesAHandleWithOneConnection(t *testing.T) {
	t.Parallel()
	d := sqlite(t)
	d.db.SetMaxOpenConns(1)
	_, err := goose.New(goose.SQLite, d.db, nil, goose.Options{})
	if err == nil || !strings.Contains(err.Error(), "SetMaxOpenConns(2)") {
		t.Errorf("New = %v, want an error with a remedy", err)
	}
	d.db.SetMaxOpenConns(2)
	if _, err := goose.New(goose.SQLite, d.db, nil, goose.Options{}); err != nil {
		t.Errorf("New with two = %v", err)
	}
}
