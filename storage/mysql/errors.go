package mysql

import (
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

	"github.com/gosequencer/sequencer/storage"
)

// The server's codes that mean something to us. They end in this file.
const (
	duplicateKey    = 1062
	lockWaitTimeout = 1205
	deadlock        = 1213
	tooManyRows     = 1242 // a subquery that may have one row has more
	noSuchTable     = 1146
	noSuchSavepoint = 1305
)

func code(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// errKeyTaken: a unique key or an id that was free a moment ago has a holder.
var errKeyTaken = errors.New("a key was taken meanwhile")

// errMoved: a row changed between being read and being written.
var errMoved = errors.New("the execution moved on meanwhile")

// errEnded: the caller's transaction is none any more.
var errEnded = errors.New("the transaction has ended: on MySQL and MariaDB a statement such as CREATE TABLE commits it;" +
	" put that into a migration, or run the operation without a transaction")

// again reports an error that says no more than that another transaction was in
// the way.
func again(err error) bool {
	switch code(err) {
	case deadlock, lockWaitTimeout, duplicateKey: // what may be there already is looked for before it is written
		return true
	}
	return errors.Is(err, errKeyTaken) || errors.Is(err, errMoved)
}

// explained adds what was attempted, once, and says in the contract's words what
// the server said in its own.
func explained(what string, err error) error {
	if err == nil {
		return nil
	}
	if code(err) == noSuchTable {
		return &storage.SchemaError{Schema: storage.Schema{Want: schemaVersion}}
	}
	if _, ok := errors.AsType[*storage.SchemaError](err); ok {
		return err
	}
	if again(err) {
		err = fmt.Errorf("%w: %w", storage.ErrConflict, err)
	}
	return fmt.Errorf("mysql: %s: %w", what, err)
}

// unreachableError says which server did not answer.
type unreachableError struct {
	config *mysql.Config
	err    error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("connect to mysql at %s, database %q: %v", e.config.Addr, e.config.DBName, e.err)
}

func (e *unreachableError) Unwrap() error { return e.err }

// Hint is for whoever prints errors to people.
func (e *unreachableError) Hint() string {
	return "check that the server runs there, that this machine can reach it, that it lets this user in, and that the database exists"
}
