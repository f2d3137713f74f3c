package sequencer

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// waitFirst is how soon a waiting caller looks again; each further look comes twice as
// late, up to Config.Poll.
const waitFirst = 5 * time.Millisecond

// Wait returns when all members have ended, or ctx has. What did not complete is a
// *FlowError; when ctx ends first, the error is its cause and the status the last that
// was seen. Callbacks may still run. A worker in this process wakes it; of others it
// learns by looking, at least every Config.Poll.
func (f *Flow) Wait(ctx context.Context) (FlowStatus, error) {
	woken, leave := f.s.waiting.join(f.id)
	defer leave()
	var last FlowStatus
	for pause := waitFirst; ; pause = min(2*pause, max(f.s.cfg.Poll, waitFirst)) {
		row, err := f.s.flow(ctx, f.id)
		switch {
		case err != nil && ctx.Err() != nil:
			return last, context.Cause(ctx)
		case err != nil:
			return last, err
		}
		if last = statusOf(&row); row.Over() {
			return last, f.s.flowError(ctx, &row)
		}
		timer := time.NewTimer(pause)
		select {
		case <-woken:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return last, context.Cause(ctx)
		}
		timer.Stop()
	}
}

// flowWaits is who wants to know of flows in this process: the calls of Wait under way,
// by flow, and the sessions that watch some. It is shared by all sequencers of one New,
// whose ids do not meet.
type flowWaits struct {
	mu       sync.Mutex // guards the rest
	all      map[storage.ID][]chan struct{}
	sessions []*flowWatch
}

func (w *flowWaits) enter(f *flowWatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions = append(w.sessions, f)
}

func (w *flowWaits) exit(f *flowWatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions = slices.DeleteFunc(w.sessions, func(o *flowWatch) bool { return o == f })
}

func (w *flowWaits) told(flows []storage.Flow) {
	w.mu.Lock()
	sessions := slices.Clone(w.sessions)
	w.mu.Unlock()
	for _, s := range sessions {
		s.told(flows)
	}
}

func (w *flowWaits) join(id storage.ID) (woken <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[storage.ID][]chan struct{}{}
	}
	w.all[id] = append(w.all[id], c)
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all[id] = slices.DeleteFunc(w.all[id], func(o chan struct{}) bool { return o == c })
		if len(w.all[id]) == 0 {
			delete(w.all, id)
		}
	}
}

// wake tells whoever waits for a flow to look at it.
func (w *flowWaits) wake(id storage.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.all[id] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// flowsMoved takes in what a write of this process told of flows: whoever runs their
// members or waits for them learns of it, and observers of those that ended by it.
func (s *Sequencer) flowsMoved(ctx context.Context, flows []storage.Flow) {
	if len(flows) == 0 {
		return
	}
	s.waiting.told(flows)
	for i := range flows {
		f := &flows[i]
		if !f.Over() {
			continue
		}
		s.waiting.wake(f.ID)
		if f.Ended && (f.Kind == storage.FlowBatch || f.Kind == storage.FlowChain) {
			s.emit(ctx, Event{
				Kind: EventFlowEnded, Method: string(f.Kind), ID: f.ID.String(), Name: f.Name, State: f.State, Reason: f.Reason,
				Tasks: f.Total, Elapsed: f.FinishedAt.Sub(f.CreatedAt),
			})
		}
		if f.Ended && f.Kind == storage.FlowRun && f.WorkerID.IsZero() { // a detached one: nobody else tells
			s.emit(ctx, Event{
				Kind: EventRunEnded, Method: f.Method, RunID: f.ID.String(), State: f.State, Reason: f.Reason,
				Tasks: f.Total, Elapsed: f.FinishedAt.Sub(f.CreatedAt),
			})
		}
	}
}
