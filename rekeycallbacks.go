package sequencer

import (
	"context"
	"errors"
	"math"

	"github.com/gosequencer/sequencer/storage"
)

// Callbacks of flows keep inputs too, in templates of executions. They are read again
// whenever a flow calls them, which a retry may have it do long after its end.

// callbackFlows visits the flows that have callbacks, with those.
func (s *Sequencer) callbackFlows(ctx context.Context, visit func(f *storage.Flow, callbacks []storage.Callback) error) error {
	flows, err := s.store.Flows(ctx, storage.FlowFilter{Kinds: []storage.FlowKind{storage.FlowBatch, storage.FlowChain}, Limit: math.MaxInt32})
	if err != nil {
		return err
	}
	for i := range flows {
		if flows[i].Roles == 0 {
			continue
		}
		callbacks, err := s.store.Callbacks(ctx, flows[i].ID)
		if err != nil {
			return err
		}
		if err := visit(&flows[i], callbacks); err != nil {
			return err
		}
	}
	return nil
}

// templates visits the executions of callbacks, those of nested flows and their
// callbacks too.
func templates(callbacks []storage.Callback, visit func(row *storage.Execution) error) error {
	for i := range callbacks {
		c := &callbacks[i]
		for k := range c.Executions {
			if err := visit(&c.Executions[k]); err != nil {
				return err
			}
		}
		for k := range c.Flows {
			if err := templates(c.Flows[k].Callbacks, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// rekeyCallbacks seals anew what the callbacks of one flow keep.
func (s *Sequencer) rekeyCallbacks(ctx context.Context, f *storage.Flow, reason string, done *Rekeyed) error {
	for try := 1; ; try++ {
		callbacks, err := s.store.Callbacks(ctx, f.ID)
		if err != nil {
			return err
		}
		old, err := storage.EncodeCallbacks(callbacks)
		if err != nil {
			return err
		}
		changed, current, failed := 0, 0, 0
		unknown := ""
		err = templates(callbacks, func(row *storage.Execution) error {
			if len(s.keysOf(row)) == 0 {
				return nil
			}
			if !s.stale(row) {
				current++
				return nil
			}
			err := s.rekeyTemplate(ctx, row)
			if errors.Is(err, ErrDecrypt) {
				failed++
				unknown = firstOf(unknown, err.Error())
				return nil
			}
			changed++
			return err
		})
		if err != nil {
			return err
		}
		n := 0
		if changed > 0 {
			now, err := storage.EncodeCallbacks(callbacks)
			if err != nil {
				return err
			}
			n, err = s.store.Reseal(ctx, storage.ResealRequest{
				Changes: []storage.Reseal{{ID: f.ID, Field: storage.FieldCallbacks, Old: old, New: now}},
				Actor:   s.cfg.Actor, Reason: reason, Target: "key " + done.KeyID,
			})
			if err != nil {
				return err
			}
		}
		switch {
		case changed == 0 || n > 0:
			done.Changed, done.Current, done.Failed = done.Changed+changed, done.Current+current, done.Failed+failed
			done.Unknown = firstOf(done.Unknown, unknown)
			return nil
		case try == rekeyTries:
			done.Missed += changed
			return nil
		}
	}
}

// rekeyTemplate seals the input of one template anew.
func (s *Sequencer) rekeyTemplate(ctx context.Context, row *storage.Execution) error {
	changes, err := s.reseals(ctx, row)
	if err != nil {
		return err
	}
	for _, c := range changes {
		row.Input = c.New
	}
	row.Policy, err = changePolicy(row.Policy, func(p *policy) { p.SealedAs = row.ID })
	return err
}
