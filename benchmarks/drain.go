package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

const (
	jobs  = 20_000
	batch = 500
)

// drain measures the store alone: a backlog of 20,000 executions with about 100
// bytes of input is claimed and finished in batches of 500, every success kept in
// the ledger. Beside it stand the statements any such store must send at least,
// on a table with nothing else in it. Peers join when there are workers.
func drain() []measurement {
	suite := []measurement{
		{"drain 20,000, SQLite NORMAL", "floor: claim + update, one table", true, sqliteFloor},
		{"drain 20,000, SQLite NORMAL", "sequencer, 1 claimer", false, func(ctx context.Context, dir string) (time.Duration, error) {
			store, err := sqlite.Open(ctx, filepath.Join(dir, "drain.db"), sqlite.Options{})
			if err != nil {
				return 0, err
			}
			defer store.Close() //nolint:errcheck // scratch
			return drainStore(ctx, store, 1)
		}},
	}
	return append(suite,
		measurement{"drain 20,000, PostgreSQL", "floor: claim + move, 3 claimers", true, postgresFloor},
		measurement{"drain 20,000, PostgreSQL", "sequencer, 3 claimers", false, func(ctx context.Context, _ string) (took time.Duration, err error) {
			err = withSchema(ctx, func(url string) error {
				store, err := postgres.Open(ctx, url, postgres.Options{})
				if err != nil {
					return err
				}
				defer store.Close() //nolint:errcheck // scratch
				took, err = drainStore(ctx, store, 3)
				return err
			})
			return took, err
		}},
	)
}

// drainStore fills a store and times how long claimers take to empty it.
func drainStore(ctx context.Context, store storage.Store, claimers int) (time.Duration, error) {
	if _, err := store.Setup(ctx); err != nil {
		return 0, err
	}
	input := fmt.Appendf(nil, "\x01\x00{%q:%q}", "payload", string(make([]byte, 80)))
	for range jobs / batch {
		rows := make([]storage.Execution, batch)
		for i := range rows {
			rows[i] = storage.Execution{
				ID: storage.NewID(), Name: "noop", Kind: storage.Unlisted, Method: "async", Queue: "default",
				Priority: storage.PriorityDefault, OnLoss: storage.LossRetry, Input: input,
			}
		}
		if _, err := store.Enqueue(ctx, storage.EnqueueRequest{Executions: rows}); err != nil {
			return 0, err
		}
	}
	errs := make([]error, claimers)
	var wait sync.WaitGroup
	began := time.Now()
	for i := range claimers {
		wait.Go(func() { errs[i] = claimAll(ctx, store) })
	}
	wait.Wait()
	took := time.Since(began)
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return took, leftovers(ctx, store)
}

func claimAll(ctx context.Context, store storage.Store) error {
	w := storage.Worker{ID: storage.NewID(), Purpose: "bench", Lease: time.Minute}
	if err := store.Join(ctx, w); err != nil {
		return err
	}
	claim := &storage.ClaimRequest{Worker: w.ID, Queues: []string{"default"}, Limit: batch}
	var outcomes []storage.Outcome
	for {
		done, err := store.Finish(ctx, storage.FinishRequest{Worker: w.ID, Outcomes: outcomes, Claim: claim})
		if err != nil {
			return err
		}
		if len(done.Claimed.Executions) == 0 {
			return store.Leave(ctx, w.ID)
		}
		outcomes = outcomes[:0]
		for _, e := range done.Claimed.Executions {
			outcomes = append(outcomes, storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed})
		}
	}
}

// leftovers checks that the drain did what was measured.
func leftovers(ctx context.Context, store storage.Store) error {
	counts, err := store.Counts(ctx)
	if err != nil {
		return err
	}
	for _, c := range counts {
		if c.State == storage.Completed && c.N == jobs {
			return nil
		}
	}
	return fmt.Errorf("%d executions were to be completed, the store counts %+v", jobs, counts)
}

func sqliteFloor(ctx context.Context, dir string) (time.Duration, error) {
	db, err := open(filepath.Join(dir, "floor.db"), false)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range []string{
		"CREATE TABLE jobs (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, payload BLOB)",
		"CREATE INDEX ready ON jobs (id) WHERE state = 0",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20000) INSERT INTO jobs SELECT i, 0, zeroblob(100) FROM n",
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	for {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return 0, err
		}
		n, lowest, highest, err := floorClaim(ctx, tx)
		if err != nil {
			return 0, err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE jobs SET state = 2 WHERE id BETWEEN ? AND ?", lowest, highest); err != nil {
			return 0, err
		}
		if err := tx.Commit(); err != nil {
			return 0, err
		}
		if n == 0 {
			return time.Since(began), nil
		}
	}
}

// floorClaim claims a batch and returns how many rows, and between which ids.
func floorClaim(ctx context.Context, tx *sql.Tx) (n, lowest, highest int, err error) {
	rows, err := tx.QueryContext(ctx, "UPDATE jobs SET state = 1 WHERE id IN (SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT 500) RETURNING id, payload")
	if err != nil {
		return 0, 0, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int
		var payload []byte
		if err := rows.Scan(&id, &payload); err != nil {
			return 0, 0, 0, err
		}
		if n == 0 || id < lowest {
			lowest = id
		}
		highest = max(highest, id)
		n++
	}
	return n, lowest, highest, rows.Err()
}

func postgresFloor(ctx context.Context, _ string) (took time.Duration, err error) {
	err = withSchema(ctx, func(url string) error {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		for _, q := range []string{
			"CREATE TABLE jobs (id bigint PRIMARY KEY, state int NOT NULL, payload bytea)",
			"CREATE INDEX ready ON jobs (id) WHERE state = 0",
			"CREATE TABLE history (id bigint PRIMARY KEY, payload bytea)",
			"INSERT INTO jobs SELECT i, 0, decode(repeat('00', 100), 'hex') FROM generate_series(1, 20000) i",
			"ANALYZE jobs",
		} {
			if _, err := conn.Exec(ctx, q); err != nil {
				return err
			}
		}
		const claimers = 3
		errs := make([]error, claimers)
		var wait sync.WaitGroup
		began := time.Now()
		for i := range claimers {
			wait.Go(func() { errs[i] = floorClaimer(ctx, url) })
		}
		wait.Wait()
		took = time.Since(began)
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	})
	return took, err
}

func floorClaimer(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for {
		rows, err := conn.Query(ctx, "UPDATE jobs SET state = 1 WHERE id IN (SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED) RETURNING id, payload")
		if err != nil {
			return err
		}
		var ids []int64
		for rows.Next() {
			var id int64
			var payload []byte
			if err := rows.Scan(&id, &payload); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if len(ids) == 0 {
			return nil
		}
		if _, err := conn.Exec(ctx, "WITH gone AS (DELETE FROM jobs WHERE id = ANY($1) RETURNING id, payload) INSERT INTO history SELECT * FROM gone", ids); err != nil {
			return err
		}
	}
}
