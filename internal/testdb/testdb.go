// Package testdb hands each test a database of its own on a real server.
//
// A test asks for a backend by name and gets an address that nobody else uses: [Postgres] makes a schema and drops it
// when the test ends, [MySQL] a database, [Redis] names a ledger whose keys are removed, [SQLite] names a file in a directory that is removed. Tests may therefore run in parallel, in one
// process or in many, and children that a test starts may be handed the same address.
//
// A server is found by an environment variable with a local default:
//
//	SEQUENCER_TEST_POSTGRES_URL   postgres://… ; the default is the database that scripts/services.sh makes on
//	                              127.0.0.1:5432, then the user postgres there without a password
//	SEQUENCER_TEST_MYSQL_URL      mysql://… or the driver's own form; the default is the user that scripts/services.sh makes on
//	                              127.0.0.1:3306, then the user root there without a password
//	SEQUENCER_TEST_REDIS_URL      redis://… ; the default is redis://127.0.0.1:6379
//	SEQUENCER_TEST_REDIS_CLUSTER_URL
//	                              a server in cluster mode that has all slots; the default is the one that
//	                              scripts/services.sh starts on 127.0.0.1:6390
//	SEQUENCER_TEST_REQUIRE        "all", or backends separated by commas: their absence is a failure
//
// Without a server a test is skipped and says which backend it left out, so that a bare "go test ./..." covers memory and
// SQLite on any machine. make test and CI set SEQUENCER_TEST_REQUIRE=all: there, a missing server fails every test that
// asks for it, with the remedy.
//
// Schemas, databases and ledgers of tests that were killed stay behind; "scripts/services.sh clean" drops them.
package testdb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	postgresVar = "SEQUENCER_TEST_POSTGRES_URL"
	requireVar  = "SEQUENCER_TEST_REQUIRE"
)

// localPostgres are tried in order when the variable is not set. The first is what scripts/services.sh makes.
var localPostgres = []string{
	"postgres://sequencer_test:sequencer_test@127.0.0.1:5432/sequencer_test?sslmode=disable",
	"postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable",
}

// connectTimeout is also how long a test waits for a server that does not answer, once per process.
const connectTimeout = 5 * time.Second

// SQLite returns the path of a database file that does not exist yet, in a directory removed when tb ends.
func SQLite(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "sequencer.db")
}

// Postgres creates a schema on the server and returns a URL for pgx whose search_path is that schema and nothing else.
// The schema and all in it are dropped when tb ends; a transaction that is still open then, which blocks the drop, fails tb.
// It may be called inside a synctest bubble: it leaves no goroutine and no connection behind.
//
// Without a server, tb is skipped, or failed if SEQUENCER_TEST_REQUIRE says so.
func Postgres(tb testing.TB) string {
	tb.Helper()
	server, err := postgresServer()
	if err != nil {
		leaveOut(tb, "postgres", postgresVar, err)
		return ""
	}
	// math/rand: crypto/rand may be fixed by the test (testing/cryptotest), and then two tests would share a name.
	schema := fmt.Sprintf("test_%016x", rand.Uint64())
	if err := execPostgres(tb.Context(), server, "create schema "+schema); err != nil {
		tb.Fatalf("create schema %s for the test: %v", schema, err)
	}
	tb.Cleanup(func() {
		err := execPostgres(context.WithoutCancel(tb.Context()), server,
			"set lock_timeout = '10s'; drop schema "+schema+" cascade")
		if err != nil {
			tb.Errorf("drop schema %s (is a transaction of the test still open?): %v", schema, err)
		}
		if dropped.Add(1)%sweepEvery == 0 {
			_ = execPostgres(context.WithoutCancel(tb.Context()), server, sweep) // only its owner may
		}
	})
	own, err := withSearchPath(server, schema)
	if err != nil {
		tb.Fatal(err)
	}
	return own
}

// Thousands of schemas leave their traces in the catalogs, which slow down whatever asks
// for a table, by half in the end, on a server that does not sweep by itself.
const (
	sweepEvery = 50
	sweep      = "vacuum pg_attribute, pg_class, pg_depend, pg_index, pg_constraint, pg_type, pg_attrdef"
)

var dropped atomic.Int64

// postgresServer finds the server once per process: a run without one should not wait for it in every test.
var postgresServer = sync.OnceValues(func() (string, error) {
	if set := os.Getenv(postgresVar); set != "" {
		return set, execPostgres(context.Background(), set, "select 1")
	}
	return firstPostgres(localPostgres)
})

func firstPostgres(candidates []string) (string, error) {
	var errs []error
	for _, c := range candidates {
		err := execPostgres(context.Background(), c, "select 1")
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// execPostgres sends sql, which may be several statements, over a connection of its own.
func execPostgres(ctx context.Context, server, sql string) error {
	dialing, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.Connect(dialing, server)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	return err
}

func withSearchPath(server, schema string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return "", fmt.Errorf("%s must be a URL such as postgres://user:password@host:5432/database", postgresVar)
	}
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// leaveOut ends a test that has no server: loudly where the backend is required.
func leaveOut(tb testing.TB, backend, variable string, cause error) {
	tb.Helper()
	if required(os.Getenv(requireVar), backend) {
		tb.Fatalf("%s is required and cannot be reached: run make test, or set %s\n%v", backend, variable, cause)
		return
	}
	tb.Skipf("left out: %s cannot be reached; run make test, or set %s\n%v", backend, variable, cause)
}

// LeaveOut ends a test that lacks something of a backend but its server: loudly where the backend is required.
func LeaveOut(tb testing.TB, backend string, cause error) {
	tb.Helper()
	if required(os.Getenv(requireVar), backend) {
		tb.Fatalf("%s is required: run make test, which installs what is missing\n%v", backend, cause)
		return
	}
	tb.Skipf("left out, for want of something of %s; run make test\n%v", backend, cause)
}

func required(list, backend string) bool {
	names := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	return slices.Contains(names, "all") || slices.Contains(names, backend)
}
