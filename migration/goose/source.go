package goose

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"

	pressly "github.com/pressly/goose/v3"

	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
)

// Dialect is the kind of database that the migrations are for.
type Dialect string

// The dialects.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
	MySQL    Dialect = "mysql" // MariaDB too
)

// Options is what a source may be told besides where its migrations are.
type Options struct {
	// Tx wraps a migration's transaction for the ledger: sqlite.Tx, postgres.SQLTx, mysql.Tx.
	// Set it when db reaches the ledger's own database; that is what makes a
	// migration transactional. Nil: the migrations live in another database.
	Tx func(*sql.Tx) storage.Tx
	// Go are Go migrations, made with goose.NewGoMigration.
	Go []*pressly.Migration
	// Table is goose's table, "goose_db_version" by default: an unquoted name, with
	// its schema in front if it has one.
	Table string
}

// Source is a [migration.Source] over goose. It is safe for concurrent use, but
// applies nothing exclusively: Sequencer's run lock does that.
type Source struct {
	db      *sql.DB
	fsys    fs.FS
	dialect Dialect
	tx      func(*sql.Tx) storage.Tx
	table   table
	scripts []script // by version, ascending
}

var _ migration.Source = (*Source)(nil)

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

// New makes a source from the *.sql files in the root of fsys (use fs.Sub) and the
// Go migrations in o. Either may be missing: fsys may be nil or hold no migration.
// The names are read here, once; the files when they are listed or applied. New
// does not touch the database. It reports everything wrong at once.
func New(dialect Dialect, db *sql.DB, fsys fs.FS, o Options) (*Source, error) {
	var problems []error
	if db == nil {
		problems = append(problems, errors.New("goose: db is nil"))
	} else if db.Stats().MaxOpenConnections == 1 {
		problems = append(problems, errors.New("goose: db allows one open connection, and goose would wait for a second for ever:"+
			" use a handle of its own with db.SetMaxOpenConns(2) or more"))
	}
	name := cmp.Or(o.Table, pressly.DefaultTablename)
	if !tableName.MatchString(name) {
		problems = append(problems, fmt.Errorf("goose: Table: %q is not an unquoted table name", name))
	}
	t, err := newTable(dialect, name)
	if err != nil {
		problems = append(problems, fmt.Errorf("goose: %w", err))
	}
	scripts, err := collect(fsys, o.Go)
	if err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return &Source{db: db, fsys: fsys, dialect: dialect, tx: o.Tx, table: t, scripts: scripts}, nil
}

// Migrations lists what the files, the Go migrations and goose's table know, by
// version. AppliedAt is the table's tstamp, which goose keeps to the second on
// SQLite and MySQL; a row without one counts as applied in 1970.
func (s *Source) Migrations(ctx context.Context) ([]migration.Migration, error) {
	applied, err := s.table.applied(ctx, s.db)
	if err != nil {
		return nil, err
	}
	list := make([]migration.Migration, 0, len(s.scripts))
	for _, sc := range s.scripts {
		t, err := sc.read(s.fsys)
		if err != nil {
			return nil, err
		}
		list = append(list, migration.Migration{
			Version:       sc.version,
			Name:          sc.name,
			Path:          sc.path,
			Checksum:      t.checksum,
			Transactional: s.withLedger(sc, t),
			AppliedAt:     applied[sc.version],
		})
		delete(applied, sc.version)
	}
	for version, at := range applied {
		list = append(list, migration.Migration{
			Version: version, Name: strconv.FormatInt(version, 10), AppliedAt: at, Missing: true,
		})
	}
	slices.SortFunc(list, func(a, b migration.Migration) int { return cmp.Compare(a.Version, b.Version) })
	return list, nil
}

// atomic reports whether a migration takes place as a whole or not at all.
func (s *Source) atomic(sc script, t text) bool {
	if s.dialect == MySQL {
		return false
	}
	if sc.goes != nil {
		return sc.goes.UpFnNoTxContext == nil
	}
	return !t.noTransaction
}

// withLedger reports whether the ledger's row can share the migration's transaction.
func (s *Source) withLedger(sc script, t text) bool { return s.tx != nil && s.atomic(sc, t) }

// script returns the migration of one version.
func (s *Source) script(version int64) (script, bool) {
	i, found := slices.BinarySearchFunc(s.scripts, version, func(sc script, v int64) int { return cmp.Compare(sc.version, v) })
	if !found {
		return script{}, false
	}
	return s.scripts[i], true
}
