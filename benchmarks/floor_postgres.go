package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	postgresFloorTables = `
CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state int NOT NULL DEFAULT 0, payload bytea NOT NULL);
CREATE INDEX ready ON jobs (id) WHERE state = 0;
CREATE TABLE ledger (id bigint PRIMARY KEY, payload bytea NOT NULL, finished_at timestamptz NOT NULL)`

	postgresFloorInsert = `INSERT INTO jobs (payload) VALUES ($1) RETURNING id`
	postgresFloorShared = `INSERT INTO jobs (payload) SELECT unnest($1::bytea[]) RETURNING id`
	postgresFloorClaim  = `UPDATE jobs SET state = 1 WHERE id IN (SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED) RETURNING id, payload`
	postgresFloorFinish = `UPDATE jobs SET state = 2 WHERE id = ANY($1)`
	postgresFloorMove   = `WITH gone AS (DELETE FROM jobs WHERE id = ANY($1) RETURNING id, payload) INSERT INTO ledger SELECT id, payload, now() FROM gone`
	postgresFloorLeft   = `SELECT count(*) FROM jobs WHERE state <> 2`
)

var postgresFloors = []contender{
	{
		name: "floor", store: "postgres", works: floorWorks, prepare: preparePostgresFloor,
		settings: "an INSERT a job, COPY in bulk; claim by UPDATE … SKIP LOCKED and finish by UPDATE, 3 × 500; one table, one index",
		open: func(ctx context.Context, p place) (queue, error) {
			return openPostgresFloor(ctx, p, postgresFloorFinish)
		},
	},
	{
		name: "floor, ledger", store: "postgres", works: ledgerWorks, prepare: preparePostgresFloor,
		settings: "as the floor, but what is done moves to a table of its own",
		open:     func(ctx context.Context, p place) (queue, error) { return openPostgresFloor(ctx, p, postgresFloorMove) },
	},
	{
		name: "floor, coalesced", store: "postgres", works: coalescedWorks, prepare: preparePostgresFloor,
		settings: "callers that come together share an INSERT, 2 writers",
		open: func(ctx context.Context, p place) (queue, error) {
			f, err := openPostgresFloor(ctx, p, postgresFloorFinish)
			return coalesce(postgresShared{f}, err, 2)
		},
	},
}

func preparePostgresFloor(ctx context.Context, p place) error {
	return execPostgres(ctx, p.Address, postgresFloorTables)
}

type postgresFloor struct {
	pool   *pgxpool.Pool
	finish string
}

func openPostgresFloor(ctx context.Context, p place, finish string) (*postgresFloor, error) {
	pool, err := openPostgres(ctx, p.Address)
	return &postgresFloor{pool, finish}, err
}

func (f *postgresFloor) insert(ctx context.Context, payload []byte) error {
	var id int64
	return f.pool.QueryRow(ctx, postgresFloorInsert, payload).Scan(&id)
}

func (f *postgresFloor) insertBulk(ctx context.Context, payloads [][]byte) error {
	rows := pgx.CopyFromSlice(len(payloads), func(i int) ([]any, error) { return []any{payloads[i]}, nil })
	_, err := f.pool.CopyFrom(ctx, pgx.Identifier{"jobs"}, []string{"payload"}, rows)
	return err
}

// postgresShared inserts several rows by a statement that can tell their ids, as
// whoever inserts for others must.
type postgresShared struct{ *postgresFloor }

func (f postgresShared) insertBulk(ctx context.Context, payloads [][]byte) error {
	rows, err := f.pool.Query(ctx, postgresFloorShared, payloads)
	if err != nil {
		return err
	}
	_, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	return err
}

func (f *postgresFloor) drain(ctx context.Context, handle handler) error {
	return together(3, func() error {
		for {
			ids, err := f.claim(ctx, handle)
			if err != nil || len(ids) == 0 {
				return err
			}
			if _, err := f.pool.Exec(ctx, f.finish, ids); err != nil {
				return err
			}
		}
	})
}

func (f *postgresFloor) claim(ctx context.Context, handle handler) ([]int64, error) {
	rows, err := f.pool.Query(ctx, postgresFloorClaim)
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

func (f *postgresFloor) left(ctx context.Context) (n int, err error) {
	return n, f.pool.QueryRow(ctx, postgresFloorLeft).Scan(&n)
}

func (f *postgresFloor) close() error {
	f.pool.Close()
	return nil
}
