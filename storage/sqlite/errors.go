package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	driver "modernc.org/sqlite"

	"github.com/gosequencer/sequencer/storage"
)

// SQLite's primary result codes that have a remedy (sqlite.org/rescode.html).
const (
	codeBusy      = 5
	codeReadOnly  = 8
	codeIO        = 10
	codeCorrupt   = 11
	codeFull      = 13
	codeCantOpen  = 14
	codeNotADB    = 26
	codeUnrelated = 0
)

// codeNoSharedMemory is SQLITE_IOERR_SHMSIZE: no room for the index of the WAL.
const codeNoSharedMemory = 19<<8 | codeIO

// code is the primary SQLite result code in err, or codeUnrelated. It is the one
// place that knows the driver's error type.
func code(err error) int {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		if e.Code() == codeNoSharedMemory {
			return codeFull
		}
		return e.Code() & 0xff
	}
	if e, ok := errors.AsType[missingFile](err); ok {
		return e.Code()
	}
	return codeUnrelated
}

// Error is a trouble with the database file that an operator can mend.
type Error struct {
	Path    string
	Problem string // what is wrong
	Remedy  string // what to do about it
	Err     error
}

func (e *Error) Error() string { return fmt.Sprintf("database %s %s: %v", e.Path, e.Problem, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Hint is the remedy, for whoever prints errors to people.
func (e *Error) Hint() string { return e.Remedy }

// remedies says what each code means for the operator.
var remedies = map[int]struct{ problem, remedy string }{
	codeBusy:     {"is being written by another process", "wait for it to end, or raise BusyTimeout"},
	codeReadOnly: {"is read-only", "give this user write permission for the file and its directory, and open it without mode=ro"},
	codeIO:       {"cannot be read or written", "check the disk and the system's log"},
	codeCorrupt:  {"is damaged", "run the SQLite shell's .recover on a copy, or restore a backup"},
	codeFull:     {"has no room to grow: the disk is full", "free some space and repeat; nothing was written"},
	codeCantOpen: {"cannot be opened", "check that its directory exists and that this user may read and write it"},
	codeNotADB:   {"is not a SQLite database", "check the path; if it is right, the file is encrypted or damaged"},
}

// translate turns a driver's error into one that names the file and the remedy.
// Errors of the contract and of the context pass unchanged.
func (s *Store) translate(err error) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*Error](err); done {
		return err
	}
	if errors.Is(err, sql.ErrConnDone) || err.Error() == "sql: database is closed" {
		return storage.ErrClosed
	}
	c := code(err)
	known, ok := remedies[c]
	if !ok {
		return err
	}
	problem, remedy := known.problem, known.remedy
	if c == codeCantOpen && !s.loc.memory {
		if _, missing := os.Stat(filepath.Dir(s.loc.path)); errors.Is(missing, os.ErrNotExist) {
			problem = "is in a directory that does not exist"
			remedy = "create " + filepath.Dir(s.loc.path)
		}
	}
	return &Error{Path: s.loc.String(), Problem: problem, Remedy: remedy, Err: err}
}

// fail wraps err with what was attempted, unless it is one that callers branch on
// and that speaks for itself.
func (s *Store) fail(attempted string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", attempted, err)
	}
	if _, ok := errors.AsType[*storage.SchemaError](err); ok {
		return err
	}
	return fmt.Errorf("%s: %w", attempted, s.translate(err))
}

func (l location) String() string {
	if l.memory {
		return ":memory:"
	}
	return l.path
}
