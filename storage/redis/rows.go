package redis

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// rowsAtATime bounds how many rows one script reads.
const rowsAtATime = 1000

// rows reads executions, each whole; those that do not exist are left out.
func (s *Store) rows(ctx context.Context, ids []storage.ID) ([]row, error) {
	var all []row
	for len(ids) > 0 {
		n := min(len(ids), rowsAtATime)
		packed := make([]byte, 0, n*len(storage.ID{}))
		for _, id := range ids[:n] {
			packed = append(packed, id[:]...)
		}
		ids = ids[n:]
		answer, err := s.eval(ctx, &rowsScript, packed)
		if err != nil {
			return nil, err
		}
		some, err := records([]byte(text(answer)))
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}
