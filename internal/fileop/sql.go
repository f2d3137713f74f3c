package fileop

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/gosequencer/sequencer"
)

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
