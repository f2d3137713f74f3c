package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gosequencer/sequencer/storage"
)

// The driver's codes that mean something to us. They end in this file.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	uniqueViolation      = "23505"
	undefinedTable       = "42P01"
	readOnlyTransaction  = "25006"
)

func code(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// errKeyTaken: a unique key that was free a moment ago has a holder.
var errKeyTaken = errors.New("unique key was taken meanwhile")

// errMoved: a row changed between being read and being written.
var errMoved = errors.New("the execution moved on meanwhile")

// again reports an error that says no more than that another transaction was in
// the way.
func again(err error) bool {
	c := code(err)
	return c == serializationFailure || c == deadlockDetected || errors.Is(err, errKeyTaken) || errors.Is(err, errMoved)
}

// explained adds what was attempted, once, and says in the contract's words what
// the driver said in its own.
func explained(what string, err error) error {
	if err == nil {
		return nil
	}
	if code(err) == undefinedTable {
		return &storage.SchemaError{Schema: storage.Schema{Want: schemaVersion}}
	}
	if _, ok := errors.AsType[*storage.SchemaError](err); ok {
		return err
	}
	if again(err) {
		err = fmt.Errorf("%w: %w", storage.ErrConflict, err)
	}
	err = fmt.Errorf("postgres: %s: %w", what, err)
	if code(err) == readOnlyTransaction {
		return readOnlyError{err}
	}
	return err
}

// readOnlyError is the refusal of a standby, or of a server, database or user whose
// transactions are read-only.
type readOnlyError struct{ error }

func (e readOnlyError) Unwrap() error { return e.error }

// Hint is for whoever prints errors to people.
func (readOnlyError) Hint() string {
	return "connect to the primary server, as a user whose default_transaction_read_only is off"
}

// unreachableError says which server did not answer. The driver's error repeats it
// for each address it tried, with the user but without the password.
type unreachableError struct {
	cfg *pgx.ConnConfig
	err error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("connect to postgres at %s:%d, database %q: %v", e.cfg.Host, e.cfg.Port, e.cfg.Database, e.err)
}

func (e *unreachableError) Unwrap() error { return e.err }

// Hint is for whoever prints errors to people.
func (e *unreachableError) Hint() string {
	return "check that the server runs there, that this machine can reach it, and that it lets this user in"
}

// clean makes any text storable. A handler's error may hold anything, and one that
// the server refused would keep the outcome from ever being recorded.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
