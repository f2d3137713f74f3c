package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/gosequencer/sequencer/storage"
)

var _ storage.Syncer = (*Store)(nil)

// Sync waits until the disk has everything that was committed, see
// [storage.Syncer]. With Normal durability what it may not have yet is in the WAL:
// SQLite itself waits for the disk before it copies pages from there into the
// database, and again before it starts the WAL over
// (https://sqlite.org/wal.html#performance_considerations). So the WAL is what is
// synced, whoever wrote it: fsync is about a file, not about a descriptor. SQLite
// locks the database and its -shm file, never the WAL, so closing this descriptor
// drops no lock of its.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.ready(ctx); err != nil || s.loc.memory || s.loc.readOnly || s.opts.Durability == Full {
		return err
	}
	wal, err := os.OpenFile(s.loc.path+"-wal", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) { // all of it is in the database
		return nil
	}
	if err != nil {
		return s.fail("sync", err)
	}
	return s.fail("sync", errors.Join(wal.Sync(), wal.Close()))
}
