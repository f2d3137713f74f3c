package postgres_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage/postgres"
)

func TestZZ(t *testing.T) {
	if os.Getenv("ZZ") == "" {
		t.Skip()
	}
	url := testdb.Postgres(t)
	s0 := connect(t, url)
	start := time.Now()
	s0.Setup(t.Context())
	fmt.Println("setup", time.Since(start))
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { fmt.Println(n.Message) }
	rp := cfg.ConnConfig.RuntimeParams
	rp["session_preload_libraries"] = "auto_explain"
	rp["auto_explain.log_min_duration"] = os.Getenv("ZZ")
	rp["auto_explain.log_analyze"] = "on"
	rp["auto_explain.log_buffers"] = "off"
	rp["client_min_messages"] = "log"
	cfg.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s := postgres.New(pool, postgres.Options{})
	if os.Getenv("LINE") != "" {
		line(t, s0, 1000)
		drainAs(t, s, worker(t, s), 1)
		return
	}
	enqueue(t, s0, 20000)
	start = time.Now()
	drain(t, s, 1, 500)
	fmt.Println("drain", time.Since(start))
}
