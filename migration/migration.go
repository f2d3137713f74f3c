// Package migration says where a user's own schema migrations come from. A plan
// places them by timestamp between operations; who finds, parses and applies
// them is a [Source]. Package goose beside this one is the Source that ships.
//
// A source's own table (goose_db_version) stays the truth about what is applied.
// The ledger's row is history: who, when, how long, and the checksum of the text.
package migration

import (
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Migration is one schema change, applied or not.
type Migration struct {
	Version int64  // the 14 digits its name starts with; smaller ones (1, 2, 3…) sort before every timestamp
	Name    string // the identity shown to people: the file's name without its ending
	Path    string // where it was found; "" for a Go migration without a file, or one whose file is gone
	// Checksum is the SHA-256 of an SQL file's bytes, in hex; "" for Go migrations.
	Checksum string
	// Transactional says that Apply runs it, and the record function with it, in
	// one transaction of the ledger's own database.
	Transactional bool
	AppliedAt     time.Time // zero = not applied
	// Missing marks a version that is applied but has no file any more.
	Missing bool
}

// Applied reports whether the source's table says so.
func (m Migration) Applied() bool { return !m.AppliedAt.IsZero() }

// Source lists and applies migrations. It takes no lock of its own: Sequencer
// holds the run lock around every Apply.
type Source interface {
	// Migrations lists all known migrations by version, ascending, with what is
	// applied, in as few queries as it can. It writes nothing: a table that does
	// not exist yet means that none is applied.
	Migrations(ctx context.Context) ([]Migration, error)

	// Apply runs one pending migration. For a transactional one, record is called
	// inside the migration's transaction after its statements; an error from it
	// undoes the migration. For any other, record is not called, and the caller
	// records the outcome afterwards. An applied version is ErrApplied.
	Apply(ctx context.Context, version int64, record func(ctx context.Context, tx storage.Tx) error) error
}
