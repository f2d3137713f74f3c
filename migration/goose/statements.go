package goose

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	pressly "github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/gosequencer/sequencer/migration"
)

// Statements lists what Apply would send of a migration's SQL file, as goose takes
// the file apart. An error says what goose cannot read in it. Nothing is run and no
// database is asked; a Go migration has none.
func (s *Source) Statements(ctx context.Context, version int64) ([]string, error) {
	sc, ok := s.script(version)
	if !ok {
		return nil, fmt.Errorf("version %d: %w", version, migration.ErrUnknown)
	}
	t, err := sc.read(s.fsys)
	if err != nil || sc.goes != nil {
		return nil, err
	}
	// goose's parser is internal to it, so it gets a database that only listens.
	var heard listener
	db := sql.OpenDB(&heard)
	defer db.Close()
	provider, err := pressly.NewProvider(pressly.DialectCustom, db, oneFile{name: sc.path, data: t.data},
		pressly.WithStore(nothingApplied{s.table}), pressly.WithDisableGlobalRegistry(true))
	if err == nil {
		_, err = provider.ApplyVersion(ctx, version, true)
	}
	if err != nil {
		return nil, &applyError{script: sc.label(), cause: err}
	}
	return heard.statements, nil
}

// nothingApplied is goose's table as it is before any migration, and it keeps nothing.
type nothingApplied struct{ database.Store }

func (nothingApplied) TableExists(context.Context, database.DBTxConn) (bool, error) { return true, nil }

func (nothingApplied) GetMigration(context.Context, database.DBTxConn, int64) (*database.GetMigrationResult, error) {
	return nil, database.ErrVersionNotFound
}

func (nothingApplied) Insert(context.Context, database.DBTxConn, database.InsertRequest) error {
	return nil
}

// listener is a database that notes statements and runs none.
type listener struct{ statements []string }

var (
	_ driver.Connector       = (*listener)(nil)
	_ driver.ExecerContext   = (*listener)(nil)
	_ database.StoreExtender = nothingApplied{}
)

func (l *listener) Connect(context.Context) (driver.Conn, error) { return l, nil }
func (l *listener) Driver() driver.Driver                        { return l }
func (l *listener) Open(string) (driver.Conn, error)             { return l, nil }
func (l *listener) Prepare(string) (driver.Stmt, error)          { return nil, errors.ErrUnsupported }
func (l *listener) Begin() (driver.Tx, error)                    { return l, nil }
func (l *listener) Commit() error                                { return nil }
func (l *listener) Rollback() error                              { return nil }
func (l *listener) Close() error                                 { return nil }

func (l *listener) ExecContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	l.statements = append(l.statements, query)
	return driver.ResultNoRows, nil
}
