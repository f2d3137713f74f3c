package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

// holdKeySQL gives a running row a key. Index: primary key. Race: of two that take the
// key at once one waits for the other's commit, and then finds it taken.
const holdKeySQL = `
UPDATE sequencer_live SET unique_key = nullif($4::text, '')
WHERE id = $1::uuid AND state = 'running' AND worker_id = $2::uuid AND delivery = $3::int`

// HoldKey implements [storage.Queue].
func (s *Store) HoldKey(ctx context.Context, r storage.HoldKeyRequest) error {
	return s.tx(ctx, "hold key", r.Now, func(ctx context.Context, q *session) error {
		keys := slices.DeleteFunc([]string{r.Key}, func(key string) bool { return key == "" })
		var taken error
		q.queue(expireKeysSQL, q.now, keys, idArray(nil))
		err := q.each(ctx, func(row scanner) error {
			var key string
			var holder storage.ID
			err := row.Scan(&key, idScan{&holder})
			if holder != r.ID {
				taken = &storage.DuplicateError{Name: r.Name, Key: key, HolderID: holder}
			}
			return err
		}, holdersSQL, keys)
		if err != nil || taken != nil {
			return errors.Join(err, taken)
		}
		n, err := q.exec(ctx, holdKeySQL, r.ID.String(), r.Worker.String(), r.Delivery, r.Key)
		switch {
		case code(err) == uniqueViolation:
			return errKeyTaken
		case err == nil && n == 0:
			return leaseLost(r.Worker)
		}
		return err
	})
}
