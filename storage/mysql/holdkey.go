package mysql

import (
	"context"
	"errors"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

// holdKeySQL gives a running row a key, by primary key. Of two that take the key at
// once one waits for the other's commit, and then finds it taken.
const holdKeySQL = `UPDATE sequencer_live FORCE INDEX (PRIMARY) SET unique_key = NULLIF(?, '') WHERE id = ? AND holder = ? AND delivery = ?`

// HoldKey implements [storage.Queue].
func (s *Store) HoldKey(ctx context.Context, r storage.HoldKeyRequest) error {
	return s.tx(ctx, "hold key", r.Now, func(ctx context.Context, q *session) error {
		fenced := false
		q.queueScan(func(scanner) error { fenced = true; return nil }, fencedSQL, idArg(r.ID), r.Worker[:], r.Delivery)
		e := &enqueuing{q: q}
		holders, err := e.holders(ctx, slices.DeleteFunc(textList{r.Key}, func(key string) bool { return key == "" }))
		if err != nil {
			return err
		}
		if !fenced {
			return leaseLost(r.Worker)
		}
		h, held := holders[r.Key]
		switch {
		case held && h.id == r.ID:
			return nil
		case held && h.expired:
			n, err := q.exec(ctx, expireKeySQL, idList{h.id})
			if err == nil && n != 1 {
				err = errKeyTaken
			}
			if err != nil {
				return err
			}
		case held:
			return &storage.DuplicateError{Name: r.Name, Key: r.Key, HolderID: h.id}
		}
		_, err = q.exec(ctx, holdKeySQL, r.Key, idArg(r.ID), r.Worker[:], r.Delivery)
		if code(err) == duplicateKey {
			err = errors.Join(errKeyTaken, err)
		}
		return err
	})
}
