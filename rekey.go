package sequencer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

const (
	// rekeyPage is how many rows a change of keys reads, and writes at most in one
	// transaction. A row may have three fields of 8 MiB.
	rekeyPage = 100
	// rekeyTries is how often a row is looked at that others change meanwhile.
	rekeyTries = 5
)

// KeyUse counts the executions whose stored data needs a key. Those nobody will
// read again are left out: they do not keep a key from being retired.
type KeyUse struct {
	KeyID   string `json:"key"`               // "" = stored in clear, though the operation is Encrypted by now
	Waiting int    `json:"waiting"`           // not over yet
	Kept    int    `json:"kept"`              // over, and may still be retried, rolled back, or read by others of its flow
	Current bool   `json:"current,omitempty"` // this key seals what is new
	Missing bool   `json:"missing,omitempty"` // this process does not have it
}

// KeyUsage counts, per key, what a change of keys is about, by key id. It reads all
// of the ledger that is not pruned.
func (s *Sequencer) KeyUsage(ctx context.Context) ([]KeyUse, error) {
	uses := map[string]*KeyUse{}
	if s.cfg.Sealer != nil {
		id := s.cfg.Sealer.KeyID()
		uses[id] = &KeyUse{KeyID: id, Current: true}
	}
	count := func(row *storage.Execution, over bool) {
		for _, id := range s.keysOf(row) {
			if uses[id] == nil {
				uses[id] = &KeyUse{KeyID: id, Missing: id != "" && s.missing(ctx, row, id)}
			}
			if over {
				uses[id].Kept++
			} else {
				uses[id].Waiting++
			}
		}
	}
	err := s.sealedPages(ctx, func(rows []storage.Execution) error {
		for i := range rows {
			count(&rows[i], rows[i].State.Over())
		}
		return nil
	})
	if err == nil {
		err = s.callbackFlows(ctx, func(f *storage.Flow, callbacks []storage.Callback) error {
			return templates(callbacks, func(row *storage.Execution) error { count(row, f.Over()); return nil })
		})
	}
	if err != nil {
		return nil, fmt.Errorf("counting keys: %w", err)
	}
	list := make([]KeyUse, 0, len(uses))
	for _, id := range slices.Sorted(maps.Keys(uses)) {
		list = append(list, *uses[id])
	}
	return list, nil
}

// Rekeyed is what a change of keys came to.
type Rekeyed struct {
	KeyID   string `json:"key"`               // everything counted in Changed is sealed with it now
	Changed int    `json:"changed"`           // executions
	Current int    `json:"current"`           // had it already
	Failed  int    `json:"failed,omitempty"`  // do not open: their key is missing, or they were tampered with; left as they are
	Missed  int    `json:"missed,omitempty"`  // changed by others all the while: run it again
	Unknown string `json:"unknown,omitempty"` // the first of the errors behind Failed
}

// Rekey seals anew, with the sealer's present key, all that others will still read:
// what waits or runs, what may be retried or rolled back, and what the members of a
// flow kept. Operations that became Encrypted after they were queued are sealed for
// the first time. Workers go on meanwhile: a row that one of them has changed since
// it was read is read again. It may be stopped, repeated, and run twice at once.
// Messages of errors keep their key and go with the history. reason goes into the
// audit log, with an entry for each slice of rows that was written.
//
// A key may be retired once every process has the new one as its present key and a
// Rekey after that has left nothing with the old one, which KeyUsage shows.
func (s *Sequencer) Rekey(ctx context.Context, reason string) (*Rekeyed, error) {
	if s.cfg.Sealer == nil {
		return nil, errors.New("rekey: no sealer is configured (Config.Sealer)")
	}
	done := &Rekeyed{KeyID: s.cfg.Sealer.KeyID()}
	err := s.sealedPages(ctx, func(rows []storage.Execution) error { return s.rekeyRows(ctx, rows, reason, done) })
	if err == nil {
		err = s.callbackFlows(ctx, func(f *storage.Flow, _ []storage.Callback) error { return s.rekeyCallbacks(ctx, f, reason, done) })
	}
	if err != nil {
		return done, fmt.Errorf("rekey, after %d executions: %w: run it again", done.Changed, err)
	}
	return done, nil
}

// rekeyRows changes one page.
func (s *Sequencer) rekeyRows(ctx context.Context, rows []storage.Execution, reason string, done *Rekeyed) error {
	for try := 1; len(rows) > 0; try++ {
		r := storage.ResealRequest{Actor: s.cfg.Actor, Reason: reason, Target: "key " + done.KeyID}
		touched := map[storage.ID]bool{}
		for i := range rows {
			row := &rows[i]
			changes, err := s.reseals(ctx, row)
			switch {
			case errors.Is(err, ErrDecrypt):
				done.Failed++
				done.Unknown = cmp.Or(done.Unknown, err.Error())
			case err != nil:
				return err
			case len(changes) > 0:
				r.Changes = append(r.Changes, changes...)
				touched[row.ID] = true
			case try == 1 && len(s.keysOf(row)) > 0:
				done.Current++
			}
		}
		if len(r.Changes) == 0 {
			return nil
		}
		n, err := s.store.Reseal(ctx, r)
		if err != nil {
			return err
		}
		if n == len(r.Changes) {
			done.Changed += len(touched)
			return nil
		}
		// Some were changed by others. What was written is not written again.
		ids := slices.Collect(maps.Keys(touched))
		if rows, err = s.store.Executions(ctx, storage.Filter{IDs: ids, Limit: rekeyPage}); err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(row storage.Execution) bool { return !s.stale(&row) })
		done.Changed += len(touched) - len(rows)
		if try == rekeyTries {
			done.Missed += len(rows)
			return nil
		}
	}
	return nil
}

// reseals are the changes that a row needs.
func (s *Sequencer) reseals(ctx context.Context, row *storage.Execution) ([]storage.Reseal, error) {
	var changes []storage.Reseal
	for field, stored := range s.fields(row) {
		if keyID, _, sealed := sealedWith(stored); sealed && keyID == s.cfg.Sealer.KeyID() {
			continue
		}
		plain, err := s.open(ctx, row, field, stored)
		if err != nil {
			return nil, err
		}
		if _, _, sealed := sealedWith(stored); !sealed && field == storage.FieldInput {
			if _, _, plain, err = parseInput(stored); err != nil {
				return nil, fmt.Errorf("%s (%s): input: %w", row.Name, row.ID, err)
			}
		}
		again, err := s.seal(ctx, row, field, plain)
		if err != nil {
			return nil, err
		}
		changes = append(changes, storage.Reseal{ID: row.ID, Field: field, Old: stored, New: again})
	}
	return changes, nil
}

// fields are those of a row that are sealed, or should be.
func (s *Sequencer) fields(row *storage.Execution) map[storage.Field][]byte {
	fields := map[storage.Field][]byte{
		storage.FieldInput: row.Input, storage.FieldCheckpoint: row.Checkpoint, storage.FieldResult: row.Result,
	}
	reg, known := s.reg.lookup(row.Name)
	maps.DeleteFunc(fields, func(_ storage.Field, stored []byte) bool {
		_, _, sealed := sealedWith(stored)
		return len(stored) == 0 || !sealed && (!known || !reg.encrypted)
	})
	return fields
}

// keysOf are the ids of the keys a row needs, each once; "" for what is in clear.
func (s *Sequencer) keysOf(row *storage.Execution) []string {
	var ids []string
	for _, stored := range s.fields(row) {
		id, _, _ := sealedWith(stored)
		ids = addTags(ids, []string{id})
	}
	return ids
}

func (s *Sequencer) stale(row *storage.Execution) bool {
	return slices.ContainsFunc(s.keysOf(row), func(id string) bool { return id != s.cfg.Sealer.KeyID() })
}

// missing reports whether the sealer lacks the key of one of a row's fields.
func (s *Sequencer) missing(ctx context.Context, row *storage.Execution, keyID string) bool {
	for field, stored := range s.fields(row) {
		if id, _, _ := sealedWith(stored); id == keyID {
			_, err := s.open(ctx, row, field, stored)
			return errors.Is(err, ErrUnknownKey)
		}
	}
	return false
}

// sealedPages reads, oldest first, what may still be read by somebody. All states
// are asked for together, so that a row that changes its state is not missed.
func (s *Sequencer) sealedPages(ctx context.Context, visit func([]storage.Execution) error) error {
	f := storage.Filter{Oldest: true, Limit: rekeyPage, States: []storage.State{
		storage.Pending, storage.Running, storage.Failed, storage.Cancelled, storage.Interrupted, storage.Completed,
	}}
	for {
		rows, err := s.store.Executions(ctx, f)
		if err != nil {
			return err
		}
		full := len(rows) == rekeyPage
		if full {
			last := rows[len(rows)-1]
			f.After = &storage.Cursor{At: last.CreatedAt, ID: last.ID}
		}
		// What completed outside flows and deploy runs is over for good, and so is an undo.
		rows = slices.DeleteFunc(rows, func(row storage.Execution) bool {
			return row.State == storage.Completed && (row.Kind == storage.Undo || row.Kind == storage.Unlisted && row.FlowID.IsZero())
		})
		if err := visit(rows); err != nil {
			return err
		}
		if !full {
			return nil
		}
	}
}
