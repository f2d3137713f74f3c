package goose

import (
	"context"
	"database/sql"
	"testing"

	pressly "github.com/pressly/goose/v3"
)

func TestNoTransactionIsReadTheWayGooseReadsIt(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		"-- +goose NO TRANSACTION\n-- +goose Up":            true,
		"-- +goose Up\r\n-- +goose no Transaction\r\n":      true,
		"--+goose NO TRANSACTION":                           true,
		"-- +goose Up\nSELECT 1;\n-- +goose NO TRANSACTION": true,
		"-- +goose NO TRANSACTION --":                       true,
		"-- NO TRANSACTION":                                 false,
		"SELECT '-- +goose NO TRANSACTION';":                false,
		"-- +goose Up\n-- we want no transaction +goose":    false,
		"": false,
	} {
		if got := noTransaction([]byte(sql)); got != want {
			t.Errorf("noTransaction(%q) = %v, want %v", sql, got, want)
		}
	}
}

// MySQL's DDL commits by itself, so nothing there is one step.
func TestNothingIsAtomicOnMySQL(t *testing.T) {
	t.Parallel()
	inTx := script{goes: pressly.NewGoMigration(1, &pressly.GoFunc{RunTx: func(context.Context, *sql.Tx) error { return nil }}, nil)}
	for dialect, want := range map[Dialect]bool{MySQL: false, Postgres: true, SQLite: true} {
		s := &Source{dialect: dialect}
		if got := s.atomic(script{}, text{}) && s.atomic(inTx, text{}); got != want {
			t.Errorf("atomic on %s = %v, want %v", dialect, got, want)
		}
		if s.atomic(script{}, text{noTransaction: true}) {
			t.Errorf("atomic on %s = true without a transaction", dialect)
		}
	}
}
