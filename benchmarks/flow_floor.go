package main

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// The loops written by hand that chains are compared with.

const (
	postgresFloorStep = `
UPDATE jobs SET state = 2 WHERE id = (SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING payload`
	sqliteFloorStep = `UPDATE jobs SET state = 2 WHERE id = (SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT 1) RETURNING payload`
	mysqlFloorFirst = `SELECT id, payload FROM jobs WHERE state = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED`
	mysqlFloorStep  = `UPDATE jobs SET state = 2 WHERE id = ?`
)

// KEYS: bodies, waiting, ledger. Returns the payload.
var redisFloorStep = redis.NewScript(`
local popped = redis.call('ZPOPMIN', KEYS[2], 1)
if #popped == 0 then return false end
local payload = redis.call('HGET', KEYS[1], popped[1])
redis.call('XADD', KEYS[3], '*', 'id', popped[1], 'payload', payload)
redis.call('HDEL', KEYS[1], popped[1])
return payload`)

func (f *postgresFloor) step(ctx context.Context, handle handler) (bool, error) {
	var payload []byte
	err := f.pool.QueryRow(ctx, postgresFloorStep).Scan(&payload)
	return stepped(payload, err, pgx.ErrNoRows, handle)
}

func (f *sqliteFloor) step(ctx context.Context, handle handler) (bool, error) {
	var payload []byte
	err := f.db.QueryRowContext(ctx, sqliteFloorStep).Scan(&payload)
	return stepped(payload, err, sql.ErrNoRows, handle)
}

func (f *mysqlFloor) step(ctx context.Context, handle handler) (bool, error) {
	tx, err := f.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	var id int64
	var payload []byte
	err = tx.QueryRowContext(ctx, mysqlFloorFirst).Scan(&id, &payload)
	if more, err := stepped(payload, err, sql.ErrNoRows, handle); !more {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, mysqlFloorStep, id); err != nil {
		return false, err
	}
	return true, tx.Commit()
}

func (f *redisFloor) step(ctx context.Context, handle handler) (bool, error) {
	payload, err := redisFloorStep.Run(ctx, f.client, []string{f.bodies, f.waiting, f.ledger}).Text()
	return stepped([]byte(payload), err, redis.Nil, handle)
}

// stepped is the answer of a step; none is the error that says that nothing waits.
func stepped(payload []byte, err, none error, handle handler) (bool, error) {
	if errors.Is(err, none) {
		return false, nil
	}
	if err == nil {
		handle(payload)
	}
	return err == nil, err
}
