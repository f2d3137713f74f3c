package testdb

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestPostgresGivesEachTestASchemaOfItsOwn(t *testing.T) {
	t.Parallel()
	one, two := Postgres(t), Postgres(t)
	exec(t, one, "create table notes (body text)")
	exec(t, one, "insert into notes values ('one')")
	exec(t, two, "create table notes (body text)")

	if got := queryInt(t, two, "select count(*) from notes"); got != 0 {
		t.Errorf("the second schema sees %d rows of the first, want 0", got)
	}
	if got := queryInt(t, one, "select count(*) from notes"); got != 1 {
		t.Errorf("the first schema has %d rows, want 1", got)
	}
}

func TestPostgresDropsTheSchemaWhenTheTestEnds(t *testing.T) {
	t.Parallel()
	server := Postgres(t)
	var schema string
	t.Run("the test", func(t *testing.T) {
		conn := connect(t, Postgres(t))
		if err := conn.QueryRow(t.Context(), "select current_schema()").Scan(&schema); err != nil {
			t.Fatal(err)
		}
		if schema == "" {
			t.Fatal("current_schema() is empty inside the test: the control of what follows")
		}
		if _, err := conn.Exec(t.Context(), "create table notes (body text)"); err != nil {
			t.Fatal(err)
		}
	})
	left := queryInt(t, server, fmt.Sprintf("select count(*) from pg_namespace where nspname = '%s'", schema))
	if left != 0 {
		t.Errorf("schema %s is still there after its test", schema)
	}
}

func TestPostgresLeavesNothingBehindInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := connect(t, Postgres(t))
		before := time.Now()
		time.Sleep(24 * time.Hour)
		if _, err := conn.Exec(t.Context(), "select 1"); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(before); waited < 24*time.Hour {
			t.Errorf("the bubble's clock moved by %v, want a day", waited)
		}
	})
}

func TestSQLiteNamesAFreshFile(t *testing.T) {
	t.Parallel()
	one, two := SQLite(t), SQLite(t)
	if one == two || !filepath.IsAbs(one) {
		t.Errorf("got %q and %q, want two absolute paths", one, two)
	}
}

func TestAMissingServerSkipsUnlessItIsRequired(t *testing.T) {
	const remedy = "run make test, or set " + postgresVar
	for require, want := range map[string]string{
		"":               "skip",
		"mysql":          "skip",
		"all":            "fatal",
		"postgres":       "fatal",
		"mysql,postgres": "fatal",
	} {
		t.Run("require="+require, func(t *testing.T) {
			t.Setenv(requireVar, require)
			tb := &recorder{TB: t}
			leaveOut(tb, "postgres", postgresVar, errors.New("connection refused"))
			if tb.verdict != want {
				t.Errorf("got %s, want %s", tb.verdict, want)
			}
			for _, part := range []string{"postgres", remedy, "connection refused"} {
				if !strings.Contains(tb.message, part) {
					t.Errorf("the message lacks %q: %s", part, tb.message)
				}
			}
		})
	}
}

func TestTheFirstServerThatAnswersIsTaken(t *testing.T) {
	t.Parallel()
	const nobody = "postgres://postgres@127.0.0.1:1/postgres?sslmode=disable"
	if _, err := firstPostgres([]string{nobody, nobody}); err == nil {
		t.Error("no error although nobody listens on port 1")
	}
	server := Postgres(t)
	got, err := firstPostgres([]string{nobody, server})
	if err != nil || got != server {
		t.Errorf("got %q, %v, want %q", got, err, server)
	}
}

func TestAnAddressThatIsNoURLIsRefused(t *testing.T) {
	t.Parallel()
	if got, err := withSearchPath("host=localhost user=postgres", "test_1"); err == nil {
		t.Errorf("got %q, want an error that asks for a URL", got)
	}
	got, err := withSearchPath("postgres://u:p@h:5433/d?sslmode=disable", "test_1")
	if want := "postgres://u:p@h:5433/d?search_path=test_1&sslmode=disable"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// recorder notes how a test would have ended instead of ending.
type recorder struct {
	testing.TB
	verdict, message string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) {
	r.verdict, r.message = "skip", fmt.Sprintf(format, args...)
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.verdict, r.message = "fatal", fmt.Sprintf(format, args...)
}

func connect(t *testing.T, server string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	// t.Context is done when this runs, and pgx needs none to close a socket.
	t.Cleanup(func() { conn.Close(t.Context()) })
	return conn
}

func exec(t *testing.T, server, sql string) {
	t.Helper()
	if _, err := connect(t, server).Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func queryInt(t *testing.T, server, sql string) int {
	t.Helper()
	var n int
	if err := connect(t, server).QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
