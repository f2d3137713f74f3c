package sequencer_test

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/storage/mysql"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/redis"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// onAll runs a test on every kind of store, with a way to dump what it holds.
func onAll(t *testing.T, test func(t *testing.T, store storage.Store, dump func() string)) {
	t.Helper()
	for name, open := range map[string]func(*testing.T) (storage.Store, func() string){
		"memory":   func(*testing.T) (storage.Store, func() string) { return memory.New(), func() string { return "" } },
		"sqlite":   openSQLite,
		"postgres": openPostgres,
		"mysql":    openMySQL,
		"redis":    openRedis,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, dump := open(t)
			t.Cleanup(func() { _ = store.Close() })
			test(t, store, dump)
		})
	}
}

func openSQLite(t *testing.T) (storage.Store, func() string) {
	t.Helper()
	path := testdb.SQLite(t)
	store, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store, func() string {
		var all []byte
		for _, end := range []string{"", "-wal"} {
			raw, err := os.ReadFile(path + end)
			if err != nil && end == "" {
				t.Fatal(err)
			}
			all = append(all, raw...)
		}
		return string(all)
	}
}

func openPostgres(t *testing.T) (storage.Store, func() string) {
	t.Helper()
	store, err := postgres.Open(t.Context(), testdb.Postgres(t), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store, func() string {
		return dumpTables(t, store.DB(), "current_schema()", func(table string) string { return "SELECT x::text FROM " + table + " x" })
	}
}

func openMySQL(t *testing.T) (storage.Store, func() string) {
	t.Helper()
	store, err := mysql.Open(t.Context(), testdb.MySQL(t), mysql.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store, func() string {
		return dumpTables(t, store.DB(), "database()", func(table string) string { return "SELECT * FROM " + table })
	}
}

// dumpTables is all rows of all tables of a schema.
func dumpTables(t *testing.T, db *sql.DB, schema string, query func(table string) string) string {
	t.Helper()
	tables := dumpRows(t, db, "SELECT table_name FROM information_schema.tables WHERE table_schema = "+schema)
	if !strings.Contains(tables, "sequencer_history") {
		t.Fatalf("the schema holds %s", tables)
	}
	var dump strings.Builder
	for table := range strings.FieldsSeq(tables) {
		dump.WriteString(dumpRows(t, db, query(table)))
	}
	return dump.String()
}

func dumpRows(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, places := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range values {
		places[i] = &values[i]
	}
	var dump strings.Builder
	for rows.Next() {
		if err := rows.Scan(places...); err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			dump.WriteString(v.String + "\n")
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return dump.String()
}

func openRedis(t *testing.T) (storage.Store, func() string) {
	t.Helper()
	address := testdb.Redis(t)
	store, err := redis.Open(t.Context(), address, redis.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store, func() string { return dumpKeys(t, address) }
}

// dumpKeys is all that a ledger's keys hold.
func dumpKeys(t *testing.T, address string) string {
	t.Helper()
	server, ledger, _ := strings.Cut(address, "?ledger=")
	o, err := goredis.ParseURL(server)
	if err != nil {
		t.Fatal(err)
	}
	client := goredis.NewClient(o)
	defer client.Close()
	var dump strings.Builder
	keys := client.Scan(t.Context(), 0, "{"+ledger+"}:*", 1000).Iterator()
	for keys.Next(t.Context()) {
		key := keys.Val()
		kind, err := client.Type(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		read, ok := map[string][]any{
			"string": {"GET", key}, "hash": {"HGETALL", key}, "set": {"SMEMBERS", key}, "list": {"LRANGE", key, 0, -1},
			"zset": {"ZRANGE", key, 0, -1}, "stream": {"XRANGE", key, "-", "+"},
		}[kind]
		if !ok {
			t.Fatalf("key %s is a %s", key, kind)
		}
		value, err := client.Do(t.Context(), read...).Result()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&dump, "%s %v\n", key, value)
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return dump.String()
}
