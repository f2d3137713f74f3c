package redis_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/redis"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

// A backend that stopped waking would pass the suite, which skips.
var _ storage.Waker = (*redis.Store)(nil)

func TestConformance(t *testing.T) {
	t.Parallel()
	conformance(t, testdb.Redis)
}

func conformance(t *testing.T, server func(testing.TB) string) {
	t.Helper()
	server(t) // without one there is nothing to run
	storagetest.Run(t, func(t *testing.T) storage.Store { return open(t, server(t)) })
}

var quiet = redis.Options{Logger: slog.New(slog.DiscardHandler)}

// open opens an empty ledger.
func open(tb testing.TB, address string) *redis.Store {
	tb.Helper()
	s, err := redis.Open(tb.Context(), address, quiet)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	if _, err := s.Setup(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestSetupRefusesAServerThatMayThrowKeysAway(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"allkeys-lru", "volatile-ttl"} {
		address := testdb.RedisServer(t, "--maxmemory-policy", policy)
		s, err := redis.Open(t.Context(), address, quiet)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Setup(t.Context())
		evicts, is := errors.AsType[*redis.EvictionError](err)
		if !is || evicts.Policy != policy || !strings.Contains(evicts.Hint(), "noeviction") {
			t.Errorf("Setup with %s: %v, want an error that names it and the remedy", policy, err)
		}
		if found, err := s.Schema(t.Context()); err != nil || found.Version != 0 {
			t.Errorf("schema %+v, %v; want no ledger", found, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSetupWarnsOfAServerWithoutAnAppendOnlyFile(t *testing.T) {
	t.Parallel()
	for appendonly, warns := range map[string]bool{"no": true, "yes": false} {
		var log bytes.Buffer
		o := redis.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
		s, err := redis.Open(t.Context(), testdb.RedisServer(t, "--appendonly", appendonly), o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Setup(t.Context()); err != nil {
			t.Error(err)
		}
		if got := strings.Contains(log.String(), "append-only"); got != warns {
			t.Errorf("appendonly %s: warned %v, want %v: %s", appendonly, got, warns, &log)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestALedgerThatIsMissingOrTooNewIsASchemaError(t *testing.T) { // S4.10
	t.Parallel()
	address := testdb.Redis(t)
	s, err := redis.Open(t.Context(), address, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Executions(t.Context(), storage.Filter{})
	if missing, is := errors.AsType[*storage.SchemaError](err); !is || !missing.Missing() {
		t.Errorf("without a ledger: %v, want a SchemaError", err)
	}
	gate := gateOf(t, address)
	meta := strings.TrimSuffix(gate, "gate") + "meta"
	if err := client(t, address).HSet(t.Context(), meta, "version", 99, "oldest_compatible", 99).Err(); err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]func() error{
		"Setup":      func() error { _, err := s.Setup(t.Context()); return err },
		"Executions": func() error { _, err := s.Executions(t.Context(), storage.Filter{}); return err },
	} {
		if old, is := errors.AsType[*storage.SchemaError](call()); !is || old.Schema.Version != 99 {
			t.Errorf("%s of a ledger that is too new: %v", what, old)
		}
	}
}

func TestSetupUpgradesALedgerOfSchema1(t *testing.T) { // S4.10
	t.Parallel()
	address := testdb.Redis(t)
	c := client(t, address)
	key := func(name string) string { return strings.TrimSuffix(gateOf(t, address), "gate") + name }
	id := storage.NewID()
	err := errors.Join(
		c.HSet(t.Context(), key("meta"), "version", 1, "oldest_compatible", 1).Err(),
		c.HSet(t.Context(), key("f:"+string(id[:])), "fixed", `{"Kind":"batch","Policy":"stop"}`, "phase", "forward", "state", "running",
			"created", 1, "total", 1, "version", 1).Err(),
		c.ZAdd(t.Context(), key("flows"), goredis.Z{Score: 1, Member: string(id[:])}).Err(),
	)
	if err != nil {
		t.Fatal(err)
	}
	s, err := redis.Open(t.Context(), address, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Pauses(t.Context())
	if old, is := errors.AsType[*storage.SchemaError](err); !is || old.Schema != (storage.Schema{Version: 1, OldestCompatible: 1, Want: 2}) {
		t.Errorf("before Setup: got %v, want a SchemaError for schema 1", err)
	}
	for range 2 {
		found, err := s.Setup(t.Context())
		if want := (storage.Schema{Version: 2, OldestCompatible: 2, Want: 2}); err != nil || found != want {
			t.Fatalf("Setup: %+v, %v; want %+v", found, err, want)
		}
	}
	flows, err := s.Flows(t.Context(), storage.FlowFilter{Root: id})
	if err != nil || len(flows) != 1 || flows[0].RootID != id || flows[0].Generation != 1 || flows[0].Total != 1 {
		t.Errorf("flows %+v, %v; want the one of before, outermost and in its first generation", flows, err)
	}
}

func TestTheAddressNamesTheLedgerAndErrorsDoNotNameThePassword(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"redis://:secret@127.0.0.1:1/0":            "connect to redis at 127.0.0.1:1",
		"redis://:secret@127.0.0.1:1/0?ledger={x":  "cannot contain braces",
		"redis://:secret@127.0.0.1:1/0?nonsense=1": "nonsense",
		"redis://:secret@127.0.0.1:one/0":          "invalid port",
	} {
		_, err := redis.Open(t.Context(), address, quiet)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v, want one that says %q and no password", address, err, want)
		}
	}
	address := testdb.Redis(t)
	s := open(t, address)
	enqueue(t, s, job("default"))
	if rows, err := open(t, testdb.Redis(t)).Executions(t.Context(), storage.Filter{}); err != nil || len(rows) != 0 {
		t.Errorf("another ledger of the server has %d rows, %v; want none", len(rows), err)
	}
	if rows, err := open(t, address).Executions(t.Context(), storage.Filter{}); err != nil || len(rows) != 1 {
		t.Errorf("the same ledger has %d rows, %v; want 1", len(rows), err)
	}
}

// The client belongs to the caller, who goes on using it.
func TestCloseLeavesACallersClientOpen(t *testing.T) {
	t.Parallel()
	address := testdb.Redis(t)
	c := client(t, address)
	ledger := strings.Trim(strings.TrimSuffix(gateOf(t, address), ":gate"), "{}")
	s := redis.New(c, redis.Options{Ledger: ledger, Logger: quiet.Logger})
	if _, err := s.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	enqueue(t, s, job("default"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Counts(t.Context()); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Counts after Close: %v, want ErrClosed", err)
	}
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the caller's client after Close: %v", err)
	}
}

// A server that was restarted, or whose scripts were flushed, gets them again.
func TestAServerThatForgotTheScriptsGetsThemAgain(t *testing.T) {
	t.Parallel()
	address := testdb.RedisServer(t)
	s, c := open(t, address), client(t, address)
	worker := join(t, s)
	enqueue(t, s, job("default"))
	if err := c.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	enqueue(t, s, job("default"))
	if err := c.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if got := claim(t, s, worker, 10); len(got) != 2 {
		t.Errorf("claimed %d, want 2", len(got))
	}
}

// A script that is sent twice because its answer was lost claims, or finishes, twice.
// The client must not do that by itself.
func TestAClaimWhoseAnswerIsLostIsNotSentAgain(t *testing.T) {
	t.Parallel()
	address := testdb.RedisServer(t)
	s := open(t, address)
	worker := join(t, s)
	claim(t, s, worker, 1) // the server knows the script from now on
	enqueue(t, s, job("default"), job("default"), job("default"))
	o, err := goredis.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	var lost atomic.Int32
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &lossy{Conn: conn, lost: &lost}, err
	}
	c := goredis.NewClient(o)
	defer c.Close()
	other := redis.New(c, quiet)
	if _, err := other.Counts(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost.Store(1)
	if _, err := other.Claim(t.Context(), storage.ClaimRequest{Worker: worker, Queues: []string{"default"}, Limit: 1}); err == nil || lost.Load() != 0 {
		t.Errorf("a claim whose answer was lost gave %v (lost %d)", err, 1-lost.Load())
	}
	if got := claim(t, s, worker, 10); len(got) != 2 {
		t.Errorf("%d rows are left, want 2: one claim was sent", len(got))
	}
}

// lossy is a connection that loses answers to scripts, as long as there are some to
// lose: the server has done its work by then.
type lossy struct {
	net.Conn
	lost   *atomic.Int32
	script bool // the last thing written
}

func (l *lossy) Write(b []byte) (int, error) {
	l.script = bytes.Contains(b, []byte("evalsha"))
	return l.Conn.Write(b)
}

func (l *lossy) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if l.script && err == nil && l.lost.Load() > 0 {
		l.lost.Add(-1)
		return 0, io.EOF
	}
	return n, err
}
