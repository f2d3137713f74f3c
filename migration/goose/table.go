package goose

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/pressly/goose/v3/database"
)

// Dialects differ in how they keep tstamp. All queries return seconds since 1970,
// so that no driver's idea of time matters (MySQL's needs an option to have one).
// %[1]s is the table, checked by New.
const (
	byID = ` ORDER BY id`

	// goose's default is datetime('now'), which is UTC.
	listSQLite = `SELECT version_id, is_applied, unixepoch(tstamp) FROM %[1]s`
	// The column has no zone; it was filled by now(), in the session's zone.
	listMySQL = `SELECT version_id, is_applied, UNIX_TIMESTAMP(tstamp) FROM %[1]s`
	// As on MySQL. goose looks for its table in the first schema of the search path
	// only; without the condition a table of the same name further down the path
	// would be listed here and ignored, that is created anew, by goose.
	listPostgres   = listPostgresIn + ` WHERE tableoid = ` + oidPostgres
	listPostgresIn = `SELECT version_id, is_applied, extract(epoch FROM tstamp::timestamptz)::float8 FROM %[1]s`
	oidPostgres    = `to_regclass(quote_ident(current_schema()) || '.%[1]s')`
	namePostgres   = `SELECT quote_ident(current_schema()) || '.%[1]s' WHERE ` + oidPostgres + ` IS NOT NULL`

	// goose answers for SQLite by an error in its own query and a log line.
	existsSQLite     = `SELECT EXISTS (SELECT 1 FROM pragma_table_info('%[2]s', %[3]s))`
	existsPostgres   = `SELECT ` + oidPostgres + ` IS NOT NULL`
	existsPostgresIn = `SELECT to_regclass('%[1]s') IS NOT NULL`
)

// table is goose's own, as goose's store sees it plus what that store cannot tell.
type table struct {
	database.Store
	list   string
	exists string // "" = goose's store knows
	whose  string // the table's full name, if it is in the schema where goose looks; "" = no question
	past   *past  // nil = ask the table each time
}

// past is what a table is known to hold. Before each migration goose asks whether
// there is a table, and whether it lists the version: walks through the schema and
// through all rows, where one look at what is new does. It serves SQLite alone,
// whose writers follow each other, so that no row appears below one that was seen.
type past struct {
	mu     sync.Mutex // guards the rest
	exists bool
	last   int64          // the highest id that was seen
	up     map[int64]bool // by version, as its newest row says
}

func newTable(d Dialect, name string) (table, error) {
	kinds := map[Dialect]database.Dialect{
		SQLite: database.DialectSQLite3, Postgres: database.DialectPostgres, MySQL: database.DialectMySQL,
	}
	kind, ok := kinds[d]
	if !ok {
		return table{}, fmt.Errorf("unknown dialect %q: use SQLite, Postgres or MySQL", d)
	}
	store, err := database.NewStore(kind, name)
	if err != nil {
		return table{}, err
	}
	t := table{Store: store}
	schema, base, qualified := strings.Cut(name, ".")
	switch {
	case d == SQLite && qualified:
		t.past = &past{up: map[int64]bool{}}
		t.list, t.exists = fmt.Sprintf(listSQLite, name), fmt.Sprintf(existsSQLite, name, base, "'"+schema+"'")
	case d == SQLite:
		t.past = &past{up: map[int64]bool{}}
		t.list, t.exists = fmt.Sprintf(listSQLite, name), fmt.Sprintf(existsSQLite, name, name, "NULL")
	case d == Postgres && qualified:
		t.list, t.exists = fmt.Sprintf(listPostgresIn, name), fmt.Sprintf(existsPostgresIn, name)
	case d == Postgres:
		t.list, t.exists = fmt.Sprintf(listPostgres, name), fmt.Sprintf(existsPostgres, name)
		t.whose = fmt.Sprintf(namePostgres, name)
	default:
		t.list = fmt.Sprintf(listMySQL, name)
	}
	t.list += byID
	return t, nil
}

// noDatabase reports SQLite's "unable to open database file" on a handle that
// must not create it: nothing is applied to a database that does not exist. A
// file that is merely out of reach will say so again when a migration is applied.
func noDatabase(err error) bool {
	const cantOpen = 14 // SQLITE_CANTOPEN, https://sqlite.org/rescode.html
	var coded interface{ Code() int }
	return errors.As(err, &coded) && coded.Code()&0xff == cantOpen
}

// applied returns when each applied version was applied. The newest row of a
// version decides: old releases of goose wrote a row for "down" too. A table that
// is not there costs a second query, and a line in PostgreSQL's log.
func (t table) applied(ctx context.Context, db *sql.DB) (map[int64]time.Time, error) {
	rows, err := read(ctx, db, t.list)
	if err == nil && len(rows) == 0 && t.whose != "" {
		rows, err = t.lookAgain(ctx, db)
	}
	if err != nil {
		if noDatabase(err) {
			return nil, nil
		}
		if exists, xerr := t.TableExists(ctx, db); xerr == nil && !exists {
			return nil, nil
		}
		return nil, fmt.Errorf("read what %s lists as applied: %w", t.Tablename(), err)
	}
	applied := make(map[int64]time.Time, len(rows))
	for _, r := range rows {
		switch {
		case r.version <= 0: // goose's first row, which is no migration
		case r.up:
			applied[r.version] = r.at
		default:
			delete(applied, r.version)
		}
	}
	return applied, nil
}

// lookAgain is for a listing without even goose's first row: another schema's table
// hid ours, or did when the driver prepared the query, since PostgreSQL does not
// plan again because a table appears earlier in the path.
func (t table) lookAgain(ctx context.Context, db *sql.DB) ([]row, error) {
	var name string
	switch err := db.QueryRowContext(ctx, t.whose).Scan(&name); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return read(ctx, db, fmt.Sprintf(listPostgresIn, name)+byID)
}

type row struct {
	version int64
	up      bool
	at      time.Time
}

func read(ctx context.Context, db *sql.DB, query string) (list []row, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		var seconds sql.NullFloat64
		if err := rows.Scan(&r.version, &r.up, &seconds); err != nil {
			return nil, err
		}
		r.at = time.UnixMicro(int64(math.Round(seconds.Float64 * 1e6))).UTC()
		list = append(list, r)
	}
	return list, rows.Err()
}

// TableExists implements goose's StoreExtender. Embedding the plain Store alone
// would lose it, and goose would then probe by an error.
func (t table) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	if t.exists == "" {
		if s, ok := t.Store.(database.StoreExtender); ok {
			return s.TableExists(ctx, db)
		}
		return false, errors.ErrUnsupported
	}
	if p := t.past; p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.exists {
			return true, nil
		}
		defer func() { p.exists = exists }()
	}
	err = db.QueryRowContext(ctx, t.exists).Scan(&exists)
	return exists, err
}

// seems reports whether a version seems to be applied: not for sure, because a row
// that was seen may be gone, but one that was not seen is not there.
func (t table) seems(ctx context.Context, db database.DBTxConn, version int64) (bool, error) {
	p := t.past
	p.mu.Lock()
	defer p.mu.Unlock()
	rows, err := db.QueryContext(ctx, fmt.Sprintf(`SELECT id, version_id, is_applied FROM %s WHERE id > %d ORDER BY id`, t.Tablename(), p.last))
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, version int64
		var up bool
		if err := rows.Scan(&id, &version, &up); err != nil {
			return false, err
		}
		p.last, p.up[version] = id, up
	}
	return p.up[version], rows.Err()
}

// GetMigration tells goose whether a version is applied, by the same rule as
// applied: its own reads any row as "applied" and needs a driver that parses time.
func (t table) GetMigration(ctx context.Context, db database.DBTxConn, version int64) (*database.GetMigrationResult, error) {
	if t.past != nil {
		if up, err := t.seems(ctx, db, version); err != nil {
			return nil, err
		} else if !up {
			return nil, database.ErrVersionNotFound
		}
	}
	// A number needs no placeholder, of which there are two kinds.
	query := fmt.Sprintf(`SELECT is_applied FROM %s WHERE version_id = %d ORDER BY id DESC LIMIT 1`, t.Tablename(), version)
	var up bool
	err := db.QueryRowContext(ctx, query).Scan(&up)
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && !up:
		return nil, database.ErrVersionNotFound
	case err != nil:
		return nil, err
	}
	return &database.GetMigrationResult{IsApplied: true}, nil
}
