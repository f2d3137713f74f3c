package main

import (
	"context"
	"database/sql"
	"strings"
)

const (
	mysqlFloorTable = `CREATE TABLE jobs (id bigint AUTO_INCREMENT PRIMARY KEY, state tinyint NOT NULL DEFAULT 0, payload varbinary(1000) NOT NULL, KEY ready (state, id)) ENGINE=InnoDB`

	mysqlFloorInsert = `INSERT INTO jobs (payload) VALUES (?)`
	mysqlFloorClaim  = `SELECT id, payload FROM jobs WHERE state = 0 ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED`
	mysqlFloorHold   = `UPDATE jobs SET state = 1 WHERE id IN `
	mysqlFloorFinish = `UPDATE jobs SET state = 2 WHERE id IN `
	mysqlFloorLeft   = `SELECT count(*) FROM jobs WHERE state <> 2`
)

var mysqlFloors = []contender{
	{
		name: "floor", store: "mysql", works: floorWorks, prepare: prepareMySQLFloor,
		settings: "an INSERT a job, 1,000 rows an INSERT in bulk; claim by SELECT … SKIP LOCKED and UPDATE, finish by UPDATE, 2 × 500",
		open:     func(_ context.Context, p place) (queue, error) { return openMySQLFloor(p) },
	},
	{
		name: "floor, coalesced", store: "mysql", works: coalescedWorks, prepare: prepareMySQLFloor,
		settings: "callers that come together share an INSERT, 2 writers",
		open: func(_ context.Context, p place) (queue, error) {
			f, err := openMySQLFloor(p)
			return coalesce(f, err, 2)
		},
	},
}

func prepareMySQLFloor(ctx context.Context, p place) error {
	return execMySQL(ctx, p.Address, mysqlFloorTable)
}

type mysqlFloor struct{ db *sql.DB }

func openMySQLFloor(p place) (*mysqlFloor, error) {
	db, err := openMySQL(p.Address)
	return &mysqlFloor{db}, err
}

func (f *mysqlFloor) insert(ctx context.Context, payload []byte) error {
	_, err := f.db.ExecContext(ctx, mysqlFloorInsert, payload)
	return err
}

func (f *mysqlFloor) insertBulk(ctx context.Context, payloads [][]byte) error {
	args := make([]any, len(payloads))
	for i := range payloads {
		args[i] = payloads[i]
	}
	_, err := f.db.ExecContext(ctx, mysqlFloorInsert+strings.Repeat(", (?)", len(payloads)-1), args...)
	return err
}

func (f *mysqlFloor) drain(ctx context.Context, handle handler) error {
	return together(2, func() error {
		for {
			ids, err := f.claim(ctx, handle)
			if err != nil || len(ids) == 0 {
				return err
			}
			if _, err := f.db.ExecContext(ctx, mysqlFloorFinish+marks(len(ids)), ids...); err != nil {
				return err
			}
		}
	})
}

func (f *mysqlFloor) claim(ctx context.Context, handle handler) ([]any, error) {
	// The default, REPEATABLE READ, would lock gaps that the other claimer waits for.
	tx, err := f.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	rows, err := tx.QueryContext(ctx, mysqlFloorClaim)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	ids := make([]any, 0, batch)
	for rows.Next() {
		var id int64
		var payload []byte
		if err := rows.Scan(&id, &payload); err != nil {
			return nil, err
		}
		handle(payload)
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil || len(ids) == 0 {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, mysqlFloorHold+marks(len(ids)), ids...); err != nil {
		return nil, err
	}
	return ids, tx.Commit()
}

func marks(n int) string { return "(?" + strings.Repeat(", ?", n-1) + ")" }

func (f *mysqlFloor) left(ctx context.Context) (n int, err error) {
	return n, f.db.QueryRowContext(ctx, mysqlFloorLeft).Scan(&n)
}

func (f *mysqlFloor) close() error { return f.db.Close() }
