package fileop

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"github.com/gosequencer/sequencer"
)

// Statements yields the SQL of an operation and of its rollback, by the files they
// are in; nothing for executables.
func (s *Set) Statements(name string) iter.Seq2[string, string] {
	return func(yield func(path, text string) bool) {
		for _, f := range s.Files {
			if f.Name != name {
				continue
			}
			for _, f := range []*File{f, f.undo} {
				if f != nil && f.SQL() && !yield(f.Path, f.text) {
					return
				}
			}
		}
	}
}

// runInTx sends a file's whole text in the operation's transaction. Without
// arguments both drivers take several statements in one text.
func runInTx(ctx context.Context, f *File) error {
	tx, err := sequencer.Tx[*sql.Tx](ctx)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, f.text); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	return nil
}

// runAlone sends it outside any transaction of ours. PostgreSQL makes one of a
// text with several statements by itself, so what refuses a transaction needs a
// file of its own.
func runAlone(ctx context.Context, open func() (*sql.DB, error), f *File) error {
	db, err := open()
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, f.text); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	return nil
}
