package sequencer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// A unique key that another connection holds (UniqueVia) is a lock there, which belongs to
// the execution. It is taken before the row is written, at the latest when the execution is
// delivered, and freed after its end: two ledgers have no write in common. A crash between
// the two leaves the lock behind. Then whoever asks for the key next looks whether its
// holder is over, and if he cannot see that, it ends UniqueFor after it was taken.

// elsewhereLock starts the names of these locks.
const elsewhereLock = "unique:"

// maxElsewhereName bounds these names, in bytes.
const maxElsewhereName = 200

func elsewhereName(key string) string {
	if len(elsewhereLock)+len(key) <= maxElsewhereName {
		return elsewhereLock + key
	}
	sum := sha256.Sum256([]byte(key))
	return elsewhereLock + "sha256:" + hex.EncodeToString(sum[:])
}

// viaMark tells the stored policies that this concerns without reading them.
var viaMark = []byte(`"via":`)

// elsewhere reports whether the key of a row that is to be written is to be held elsewhere
// from then on.
func elsewhere(row *storage.Execution) bool {
	return row.UniqueFor > 0 && row.UniqueKey == "" && bytes.Contains(row.Policy, viaMark)
}

// holdElsewhere takes the key of an execution. A *storage.DuplicateError names another one
// that has it.
func (s *Sequencer) holdElsewhere(ctx context.Context, id storage.ID, name string, p *policy) error {
	via, err := s.On(p.Via)
	if err != nil {
		return fmt.Errorf("%s: UniqueVia: %w", name, err)
	}
	lock := elsewhereName(p.Key)
	for again := true; ; again = false {
		err := via.store.Lock(ctx, storage.LockRequest{Name: lock, Execution: id, For: time.Duration(p.KeepMS) * time.Millisecond})
		held, taken := errors.AsType[*storage.LockedError](err)
		switch {
		case err == nil:
			return nil
		case !taken:
			return fmt.Errorf("unique key of %s on connection %s: %w", name, p.Via, err)
		}
		holder := held.Lock.Execution
		over := false
		if again {
			if over, err = s.endedAnywhere(ctx, holder); err != nil {
				return err
			}
		}
		if !over {
			return &storage.DuplicateError{Name: name, Key: p.Key, HolderID: holder}
		}
		if err := via.store.Unlock(ctx, storage.UnlockRequest{Name: lock, Execution: holder}); err != nil {
			return fmt.Errorf("unique key of %s on connection %s: %w", name, p.Via, err)
		}
	}
}

// endedAnywhere reports whether an execution is known to be over. One that no connection
// knows may be about to be written.
func (s *Sequencer) endedAnywhere(ctx context.Context, id storage.ID) (bool, error) {
	for _, on := range s.all {
		row, err := on.row(ctx, id)
		switch {
		case err == nil:
			return row.State.Over(), nil
		case !errors.Is(err, storage.ErrNotFound) && !noLedger(err):
			return false, err
		}
	}
	return false, nil
}

// freeElsewhere frees the key of an execution that is over, or that has begun and was
// unique until then.
func (s *Sequencer) freeElsewhere(ctx context.Context, row *storage.Execution) {
	if !bytes.Contains(row.Policy, viaMark) {
		return
	}
	p, err := readPolicy(row.Policy)
	var via *Sequencer
	if err == nil {
		via, err = s.On(p.Via)
	}
	if err == nil {
		err = via.store.Unlock(context.WithoutCancel(ctx), storage.UnlockRequest{Name: elsewhereName(p.Key), Execution: row.ID})
	}
	if err != nil {
		s.cfg.Logger.WarnContext(ctx, "unique key was not freed; it ends by itself", keyOperation, row.Name, keyExecution, row.ID.String(), keyError, err)
	}
}

// freeAllElsewhere does so for rows of which some are over.
func (s *Sequencer) freeAllElsewhere(ctx context.Context, rows []storage.Execution) {
	for i := range rows {
		if rows[i].State.Over() {
			s.freeElsewhere(ctx, &rows[i])
		}
	}
}

// claimed are the keys that rows got elsewhere before they are written.
type claimed struct {
	rows    []*storage.Execution
	holders map[int]storage.ID // by row: who has its key instead
}

// claimElsewhere takes the keys that rows need elsewhere. What is not written afterwards is
// to be released.
func (s *Sequencer) claimElsewhere(ctx context.Context, rows []storage.Execution) (c claimed, err error) {
	for i := range rows {
		row := &rows[i]
		if !elsewhere(row) {
			continue
		}
		var p policy
		if p, err = readPolicy(row.Policy); err == nil {
			err = s.holdElsewhere(ctx, row.ID, row.Name, &p)
		}
		if held, taken := errors.AsType[*storage.DuplicateError](err); taken {
			if c.holders == nil {
				c.holders = map[int]storage.ID{}
			}
			c.holders[i] = held.HolderID
			continue
		}
		if err != nil {
			s.release(ctx, c, nil)
			return claimed{}, err
		}
		c.rows = append(c.rows, row)
	}
	return c, nil
}

// release gives back keys of rows whose write failed. Where that may have come through all
// the same, outside a transaction of the caller's, the ledger is asked.
func (s *Sequencer) release(ctx context.Context, c claimed, tx storage.Tx) {
	ctx = context.WithoutCancel(ctx)
	for _, row := range c.rows {
		if tx == nil {
			if _, err := s.row(ctx, row.ID); !errors.Is(err, storage.ErrNotFound) {
				continue
			}
		}
		s.freeElsewhere(ctx, row)
	}
}

// writeRows enqueues rows, without those that are duplicates of what has their key elsewhere.
func (s *Sequencer) writeRows(ctx context.Context, tx storage.Tx, rows []storage.Execution, audit *storage.AuditEntry) ([]storage.Receipt, error) {
	keys, err := s.claimElsewhere(ctx, rows)
	if err != nil {
		return nil, err
	}
	if len(keys.holders) == 0 {
		done, err := s.write(ctx, tx, storage.EnqueueRequest{Executions: rows, Audit: audit})
		if err != nil {
			s.release(ctx, keys, tx)
		}
		return done.Receipts, err
	}
	receipts := make([]storage.Receipt, len(rows))
	var left []storage.Execution
	var at []int
	for i := range rows {
		if holder, held := keys.holders[i]; held {
			receipts[i] = storage.Receipt{ID: rows[i].ID, Duplicate: true, HolderID: holder}
			continue
		}
		left, at = append(left, rows[i]), append(at, i)
	}
	if len(left) == 0 {
		return receipts, nil
	}
	done, err := s.write(ctx, tx, storage.EnqueueRequest{Executions: left, Audit: audit})
	if err != nil {
		s.release(ctx, keys, tx)
		return nil, err
	}
	for i, r := range done.Receipts {
		receipts[at[i]] = r
	}
	return receipts, nil
}

// duplicatesElsewhere makes members of a batch duplicates whose keys are held elsewhere:
// they are skipped when their turn comes (Q4.13).
func (c claimed) duplicatesElsewhere(rows []storage.Execution) error {
	for i, holder := range c.holders {
		var err error
		if rows[i].Policy, err = changePolicy(rows[i].Policy, func(p *policy) { p.Duplicate = holder }); err != nil {
			return err
		}
	}
	return nil
}
