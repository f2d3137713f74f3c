package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
)

// connector opens connections only where there is a file. SQLite's own answer to
// a missing one is to try again read-only (unixOpen in os_unix.c), and if another
// process creates the file between its two tries, a connection that can never
// write would stay in the pool.
type connector struct {
	loc    location
	dsn    string
	driver driver.Driver
}

// openHandle is sql.Open with that precaution.
func openHandle(loc location, dsn string) (*sql.DB, error) {
	plain, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	return sql.OpenDB(connector{loc, dsn, plain.Driver()}), nil
}

func (c connector) Driver() driver.Driver { return c.driver }

func (c connector) Connect(context.Context) (driver.Conn, error) {
	if !c.loc.exists() {
		return nil, missingFile{}
	}
	return c.driver.Open(c.dsn)
}

// missingFile is the error SQLite has for a file that is not there.
type missingFile struct{}

func (missingFile) Error() string { return "unable to open database file" }

// Code is SQLite's result code, as the driver's own errors have it.
func (missingFile) Code() int { return codeCantOpen }
