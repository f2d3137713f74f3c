package main

import (
	"context"
	"database/sql"
	"encoding/json"
)

const (
	sqliteFloorTable = `CREATE TABLE jobs (id INTEGER PRIMARY KEY, state INTEGER NOT NULL DEFAULT 0, payload BLOB NOT NULL)`
	sqliteFloorReady = `CREATE INDEX ready ON jobs (id) WHERE state = 0`

	sqliteFloorInsert = `INSERT INTO jobs (payload) VALUES (?)`
	sqliteFloorBulk   = `INSERT INTO jobs (payload) SELECT value FROM json_each(?)`
	sqliteFloorClaim  = `UPDATE jobs SET state = 1 WHERE id IN (SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT 500) RETURNING id, payload`
	sqliteFloorFinish = `UPDATE jobs SET state = 2 WHERE id IN (SELECT value FROM json_each(?))`
	sqliteFloorLeft   = `SELECT count(*) FROM jobs WHERE state <> 2`
)

var sqliteFloors = []contender{
	{
		name: "floor", store: "sqlite", works: floorWorks, prepare: prepareSQLiteFloor,
		settings: "an INSERT a job; claim by UPDATE and finish by UPDATE, 500 each, one claimer; one table, one index",
		open:     func(_ context.Context, p place) (queue, error) { return openSQLiteFloor(p) },
	},
	{
		name: "floor, coalesced", store: "sqlite", works: coalescedWorks, prepare: prepareSQLiteFloor,
		settings: "callers that come together share an INSERT, 1 writer",
		open: func(_ context.Context, p place) (queue, error) {
			f, err := openSQLiteFloor(p)
			return coalesce(f, err, 1)
		},
	},
}

func prepareSQLiteFloor(ctx context.Context, p place) error {
	return execSQLite(ctx, p, sqliteFloorTable, sqliteFloorReady)
}

func execSQLite(ctx context.Context, p place, statements ...string) error {
	db, err := openSQLite(p.Address)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

type sqliteFloor struct{ db *sql.DB }

func openSQLiteFloor(p place) (*sqliteFloor, error) {
	db, err := openSQLite(p.Address)
	return &sqliteFloor{db}, err
}

func (f *sqliteFloor) insert(ctx context.Context, payload []byte) error {
	_, err := f.db.ExecContext(ctx, sqliteFloorInsert, payload)
	return err
}

func (f *sqliteFloor) insertBulk(ctx context.Context, payloads [][]byte) error {
	texts := make([]string, len(payloads))
	for i, p := range payloads {
		texts[i] = string(p)
	}
	array, err := json.Marshal(texts)
	if err != nil {
		return err
	}
	_, err = f.db.ExecContext(ctx, sqliteFloorBulk, string(array))
	return err
}

func (f *sqliteFloor) drain(ctx context.Context, handle handler) error {
	for {
		ids, err := f.claim(ctx, handle)
		if err != nil || len(ids) == 0 {
			return err
		}
		array, err := json.Marshal(ids)
		if err != nil {
			return err
		}
		if _, err := f.db.ExecContext(ctx, sqliteFloorFinish, string(array)); err != nil {
			return err
		}
	}
}

func (f *sqliteFloor) claim(ctx context.Context, handle handler) ([]int64, error) {
	rows, err := f.db.QueryContext(ctx, sqliteFloorClaim)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	ids := make([]int64, 0, batch)
	for rows.Next() {
		var id int64
		var payload []byte
		if err := rows.Scan(&id, &payload); err != nil {
			return nil, err
		}
		handle(payload)
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func (f *sqliteFloor) left(ctx context.Context) (n int, err error) {
	return n, f.db.QueryRowContext(ctx, sqliteFloorLeft).Scan(&n)
}

func (f *sqliteFloor) close() error { return f.db.Close() }
