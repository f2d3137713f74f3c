package sequencer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Resume reads the last checkpoint of this execution into cursor and reports
// whether there was one. An ordered operation that has saved none yet gets that of
// the execution before it, if that came to no end that counts: its process died, it
// failed, or it skipped for now. So the next run goes on where a run that was killed
// had come to. In an Estimate it is the one that the next execution will find.
func Resume(ctx context.Context, cursor any) (bool, error) {
	var data []byte
	var err error
	name := ""
	if sc := scopeOf(ctx); sc != nil && sc.attempt.seq != nil {
		name = sc.attempt.Name
		data, err = sc.attempt.cursor(ctx)
	} else if p, ok := ctx.Value(prospectKey{}).(prospect); ok {
		name = p.reg.name
		data, err = p.seq.inherited(ctx, p.reg, storage.ID{})
	}
	if err != nil || data == nil {
		return false, err
	}
	if err := json.Unmarshal(data, cursor); err != nil {
		return false, fmt.Errorf("checkpoint of %s: %w", name, err)
	}
	return true, nil
}

// Checkpoint saves a cursor that Resume reads in a later attempt. Inside a
// transaction of ctx it commits with it, otherwise at once.
func Checkpoint(ctx context.Context, cursor any) error {
	sc := scopeOf(ctx)
	if sc == nil {
		return nil
	}
	a := sc.attempt
	plain, err := json.Marshal(cursor)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", storage.FieldCheckpoint, a.Name, err)
	}
	data, err := a.stored(ctx, storage.FieldCheckpoint, plain)
	if err != nil {
		return err
	}
	r := storage.CheckpointRequest{
		Worker: a.session.worker(), ID: a.exec.ID, Delivery: a.exec.Delivery, Data: data, Moved: a.moves(ctx, plain),
	}
	if tx := sc.tx.open(); tx != nil {
		if err = a.seq.tx.CheckpointTx(ctx, tx, r); err == nil {
			sc.tx.keep(checkpoint{data, r.Moved})
		}
	} else if err = a.seq.store.Checkpoint(ctx, r); err == nil {
		a.setCheckpoint(checkpoint{data, r.Moved})
	}
	if err != nil {
		return fmt.Errorf("checkpoint of %s: %w", a.Name, err)
	}
	return nil
}

// checkpoint is a cursor in its stored form.
type checkpoint struct {
	data  []byte
	moved bool // it is another than the one before
}

// moves reports whether a cursor is another than the last one. One that cannot be
// read is another: nobody can go on from it.
func (a *Attempt) moves(ctx context.Context, plain []byte) bool {
	last := a.lastCheckpoint()
	if last == nil {
		return true
	}
	was, err := a.open(ctx, a.exec, storage.FieldCheckpoint, last)
	return err != nil || !bytes.Equal(was, plain)
}

// cursor is the last checkpoint, its own or inherited; nil for none.
func (a *Attempt) cursor(ctx context.Context) ([]byte, error) {
	if data := a.lastCheckpoint(); data != nil {
		return a.open(ctx, a.exec, storage.FieldCheckpoint, data)
	}
	switch a.exec.Kind {
	case storage.Hook: // that of the execution it follows
		target, err := a.target(ctx)
		if err != nil || target.Checkpoint == nil {
			return nil, err
		}
		return a.open(ctx, &target, storage.FieldCheckpoint, target.Checkpoint)
	case storage.Ordered:
	default:
		return nil, nil //nolint:nilnil // none is no error
	}
	data, err := a.seq.inherited(ctx, a.reg, a.exec.ID)
	if errors.Is(err, ErrDecrypt) { // what does not open will not do so next time either (Q7.8)
		err = Fail(err)
	}
	return data, err
}

// prospect is an ordered operation that is only looked at: what its next execution
// would find.
type prospect struct {
	seq *Sequencer
	reg *registration
}

type prospectKey struct{}

// generations is how many executions of an operation are looked at for a cursor: runs
// may have died, one after the other, before they saved one.
const generations = 100

// inherited is the cursor that an execution of an ordered operation begins with: the
// latest checkpoint since it was last done or undone. It is opened here, because it is
// sealed for the execution that saved it.
func (s *Sequencer) inherited(ctx context.Context, reg *registration, self storage.ID) ([]byte, error) {
	var latest *storage.Execution
	for _, name := range append([]string{reg.name}, reg.former...) {
		rows, err := s.store.Executions(ctx, storage.Filter{Name: name, Kinds: []storage.Kind{storage.Ordered}, Limit: generations})
		if err != nil && !noLedger(err) {
			return nil, fmt.Errorf("reading the checkpoint of %s: %w", reg.name, err)
		}
		row := unfinished(rows, self)
		if row != nil && (latest == nil || latest.CreatedAt.Before(row.CreatedAt)) {
			latest = row
		}
	}
	if latest == nil || latest.Checkpoint == nil {
		return nil, nil
	}
	return s.open(ctx, latest, storage.FieldCheckpoint, latest.Checkpoint)
}

// unfinished is the newest of an operation's rows, newest first, that saved a cursor,
// or else the one that ended the search: what came before an end that counts is over
// with it.
func unfinished(rows []storage.Execution, self storage.ID) *storage.Execution {
	for i := range rows {
		row := &rows[i]
		switch {
		case row.ID == self, row.State == storage.Skipped && row.Environment != "": // that counts elsewhere only
		case row.State == storage.RolledBack, storage.Satisfies(row.State, row.ForNow):
			return &storage.Execution{CreatedAt: row.CreatedAt}
		case row.Checkpoint != nil:
			return row
		}
	}
	return nil
}
