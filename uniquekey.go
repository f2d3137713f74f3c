package sequencer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// keyWait is how long an execution waits that finds its unique key held, before it
// looks again.
const keyWait = time.Second

// takeKey has a member of a flow take the unique key that it could not hold while it
// waited for others, and anybody a key that is held elsewhere, which may have been freed
// meanwhile. A member of a batch that finds it held is a duplicate, and skipped
// (Q4.13); a step or a callback waits, at no cost, up to its retry deadline (Q4.12).
func (a *Attempt) takeKey(ctx context.Context) error {
	p, err := a.policy()
	via := p.Via != ""
	switch {
	case err != nil:
		return Fail(err)
	case a.exec.FlowID.IsZero() && !via:
		return nil
	case !p.Duplicate.IsZero():
		return Skip("duplicate of " + p.Duplicate.String())
	case p.Key == "" || a.exec.UniqueKey == p.Key, p.UntilStart && a.Number > 1:
		return nil
	}
	if via {
		err = a.seq.holdElsewhere(ctx, a.exec.ID, a.Name, &p)
	} else {
		err = a.seq.store.HoldKey(ctx, storage.HoldKeyRequest{
			Worker: a.session.worker(), ID: a.exec.ID, Delivery: a.exec.Delivery, Name: a.Name, Key: p.Key,
		})
	}
	held, taken := errors.AsType[*storage.DuplicateError](err)
	switch {
	case !taken && err != nil:
		return fmt.Errorf("unique key of %s: %w", a.Name, err)
	case !taken:
		return nil
	case a.exec.Method == string(storage.FlowBatch) && a.exec.Kind == storage.Ordered: // it is not done
		return SkipForNow("duplicate of " + held.HolderID.String())
	case a.exec.Method == string(storage.FlowBatch), a.exec.Method == methodSchedule: // the next tick is another
		return Skip("duplicate of " + held.HolderID.String())
	}
	return &signal{
		kind: signalRelease, after: keyWait, reason: "its unique key is held by " + held.HolderID.String(),
		late: fmt.Errorf("%s: %w, %s", a.Name, ErrUniqueConflict, held.HolderID),
	}
}

// begun gives up the key of an execution that is unique until it starts (Q4.7): nothing
// stands between it and its handler any more.
func (a *Attempt) begun(ctx context.Context) error {
	p, err := a.policy()
	switch {
	case err != nil:
		return Fail(err)
	case !p.UntilStart:
		return nil
	case p.Via != "":
		a.seq.freeElsewhere(ctx, a.exec)
		return nil
	}
	err = a.seq.store.HoldKey(ctx, storage.HoldKeyRequest{Worker: a.session.worker(), ID: a.exec.ID, Delivery: a.exec.Delivery, Name: a.Name})
	if err != nil {
		return fmt.Errorf("giving up the unique key of %s: %w", a.Name, err)
	}
	return nil
}

// keepDuplicates makes members of those whose unique keys were held when their batch
// was written, and that were therefore left out: they are skipped, and say whose
// duplicate they are (Q4.13).
func (s *Sequencer) keepDuplicates(ctx context.Context, tx storage.Tx, rows []storage.Execution, done []storage.Receipt) error {
	into := map[storage.ID][]storage.Execution{}
	for i := range rows {
		if !done[i].Duplicate {
			continue
		}
		row := rows[i]
		row.ID, row.Kind, row.UniqueKey, row.Delay = storage.NewID(), storage.Unlisted, "", 0
		row.Input = frameInput(inputPlain, "", []byte("null")) // what is sealed is bound to the other id, and nothing runs
		var err error
		if row.Policy, err = changePolicy(row.Policy, func(p *policy) { p.Duplicate = done[i].HolderID }); err != nil {
			return err
		}
		into[row.FlowID] = append(into[row.FlowID], row)
	}
	for flow, list := range into {
		_, err := s.write(ctx, tx, storage.EnqueueRequest{Into: flow, Executions: list})
		if err != nil && !errors.Is(err, storage.ErrFlowOver) { // where it is over already, they are in nobody's way
			return fmt.Errorf("keeping duplicates: %w", err)
		}
	}
	return nil
}
