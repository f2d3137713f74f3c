package main

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // for the sql command
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gosequencer/sequencer/internal/testdb"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sequencer": main})
}

// scriptLimit ends scripts that hang. They share a machine with other tests, and
// wait for their turn.
const scriptLimit = 8 * time.Minute

// The scripts in testdata/all run on every backend, those in testdata/sqlite are
// about files.
func TestScriptsOnSQLite(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"testdata/all", "testdata/sqlite"} {
		p := params(t, "sqlite:app.db")
		p.Dir = dir
		testscript.Run(t, p)
	}
}

func TestScriptsOnPostgres(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/all/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			p := params(t, testdb.Postgres(t))
			p.Files = []string{file}
			testscript.Run(t, p)
		})
	}
}

// The scripts in testdata/redis are about a ledger without an SQL database.
func TestScriptsOnRedis(t *testing.T) {
	t.Parallel()
	p := params(t, testdb.Redis(t))
	p.Dir = "testdata/redis"
	testscript.Run(t, p)
}

func params(t *testing.T, url string) testscript.Params {
	t.Helper()
	return testscript.Params{
		RequireExplicitExec: true,
		Deadline:            time.Now().Add(scriptLimit),
		Setup: func(env *testscript.Env) error {
			env.Setenv("SEQUENCER_DATABASE_URL", url)
			env.Setenv("SEQUENCER_ENV", "test")
			env.Setenv("SEQUENCER_ACTOR", "tester@lab")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // under the race detector each command would sleep for a second
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "sql": runSQL, "await": await},
	}
}

// exits CODE COMMAND… runs a command that must end with that code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// sql STATEMENT [WANT] runs it on the script's database and compares the one value
// that it returns.
func runSQL(ts *testscript.TestScript, _ bool, args []string) {
	url := ts.Getenv("SEQUENCER_DATABASE_URL")
	driver, dsn := "pgx", url
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, dsn = "sqlite", ts.MkAbs(path)
	}
	db, err := sql.Open(driver, dsn)
	ts.Check(err)
	defer db.Close()
	if len(args) == 1 {
		_, err = db.Exec(args[0])
		ts.Check(err)
		return
	}
	var got string
	ts.Check(db.QueryRow(args[0]).Scan(&got))
	if got != args[1] {
		ts.Fatalf("%s: got %q, want %q", args[0], got, args[1])
	}
}

// await FILE [TEXT] waits until another process has made it, and written the text.
func await(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && strings.Contains(string(text), strings.Join(args[1:], " ")) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("%s did not appear", args[0])
		}
	}
}
