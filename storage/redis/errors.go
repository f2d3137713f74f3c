package redis

import (
	"errors"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// errMoved: what a unit had read changed before it could write.
var errMoved = errors.New("the ledger moved on meanwhile")

// errGated: another call asked everybody to stand back for a moment.
var errGated = errors.New("another call has the ledger to itself")

func leaseLost(worker storage.ID) error {
	return fmt.Errorf("worker %s: %w", worker, storage.ErrLeaseLost)
}

// explained adds what was attempted, once.
func explained(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*storage.SchemaError](err); ok {
		return err
	}
	return fmt.Errorf("redis: %s: %w", what, err)
}

// unreachableError says which server did not answer.
type unreachableError struct {
	addr string
	err  error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("connect to redis at %s: %v", e.addr, e.err)
}

func (e *unreachableError) Unwrap() error { return e.err }

// Hint is for whoever prints errors to people.
func (e *unreachableError) Hint() string {
	return "check that the server runs there, that this machine can reach it, and that it lets this user in"
}
