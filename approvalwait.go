package sequencer

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// patience is how long a run waits for approvals once nothing else is left to do.
type patience struct {
	most  time.Duration
	since time.Time  // when it began to
	held  []Approval // what it gave up on

	mu   sync.Mutex // guards told
	told map[storage.ID]bool
}

// first reports whether nobody was told yet that a member of the run waits.
func (w *patience) first(id storage.ID) bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told == nil {
		w.told = map[storage.ID]bool{}
	}
	was := w.told[id]
	w.told[id] = true
	return !was
}

// exhausted reports whether a flow has waited long enough for approvals alone. A nil one
// waits for ever.
func (w *patience) exhausted(ctx context.Context, s *Sequencer, flow storage.ID) (bool, error) {
	if w == nil {
		return false, nil
	}
	held, looking, err := s.heldByApprovals(ctx, flow)
	switch {
	case err != nil:
		return false, err
	case len(held) == 0:
		w.since = time.Time{}
		return false, nil
	case w.since.IsZero():
		w.since = time.Now()
	}
	if looking || time.Since(w.since) < w.most {
		return false, nil
	}
	w.held = held
	return true, nil
}

// reason is why a run is stopped.
func (w *patience) reason() string {
	if err := w.err(); err != nil {
		return "the run was stopped: " + err.Error()
	}
	return "the run was stopped"
}

func (w *patience) err() error {
	if w == nil || len(w.held) == 0 {
		return nil
	}
	return &ApprovalError{Waiting: w.held}
}

// heldByApprovals are the approvals that a flow waits for, if it waits for nothing else.
// looking: a worker is just about to see that there is no answer yet, and to put one of
// them back.
func (s *Sequencer) heldByApprovals(ctx context.Context, flow storage.ID) (held []Approval, looking bool, _ error) {
	const most = 10_000
	rows, err := s.store.Executions(ctx, storage.Filter{
		FlowID: flow, States: []storage.State{storage.Pending, storage.Running}, Oldest: true, Limit: most,
	})
	if err != nil {
		return nil, false, err
	}
	for i := range rows {
		e := &rows[i]
		switch {
		case e.State == storage.Pending && e.Waits > 0: // for others
			continue
		case !bytes.Contains(e.Policy, approverMark):
			return nil, false, nil
		}
		asked, err := s.look(ctx, e, s.present(e.Name))
		if err != nil {
			return nil, false, err
		}
		if asked.State != storage.Pending { // not asked yet, or answered and about to be looked at
			return nil, false, nil
		}
		a, err := s.approvalOf(ctx, &asked)
		if err != nil {
			return nil, false, err
		}
		held = append(held, a)
		looking = looking || e.State == storage.Running
	}
	return held, looking, nil
}
