package sequencer

import (
	"context"
	"sync"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// flowWatchEvery is how often a worker looks whether flows were stopped whose members
// it runs and that asked for it: one read for all of them.
const flowWatchEvery = time.Second

// maxPlaces is how many flows a session remembers the places of.
const maxPlaces = 1000

// flowWatch is what a session knows of the flows whose members it runs: only of those
// that ask.
type flowWatch struct {
	s    *Sequencer
	ctx  context.Context // of the session
	done sync.WaitGroup  // the goroutine that looks, if there is one

	mu      sync.Mutex // guards the rest
	places  map[storage.ID]*flowPlace
	watched map[storage.ID]*watchedFlow
	looking bool
	closed  bool
}

type watchedFlow struct {
	users   int
	stopped bool
}

func newFlowWatch(ctx context.Context, s *Sequencer) *flowWatch {
	return &flowWatch{s: s, ctx: ctx, places: map[storage.ID]*flowPlace{}, watched: map[storage.ID]*watchedFlow{}}
}

// place reads where the members of a flow stand, or remembers it.
func (w *flowWatch) place(ctx context.Context, s *Sequencer, id storage.ID) (*flowPlace, error) {
	w.mu.Lock()
	known := w.places[id]
	w.mu.Unlock()
	if known != nil {
		return known, nil
	}
	f, err := s.flow(ctx, id)
	if err != nil {
		return nil, err
	}
	p := &flowPlace{id: f.ID, kind: f.Kind, method: f.Method, name: f.Name, options: f.Options}
	if !f.ParentID.IsZero() {
		row, err := s.row(ctx, f.ParentID)
		if err != nil {
			return nil, err
		}
		p.standIn = &row
		if p.outer, err = w.place(ctx, s, row.FlowID); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.places) >= maxPlaces {
		clear(w.places)
	}
	w.places[id] = p
	return p, nil
}

// join begins to watch a flow for an attempt, until leave. The first to ask reads it.
func (w *flowWatch) join(ctx context.Context, id storage.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.watched[id]
	if f == nil {
		w.mu.Unlock()
		row, err := w.s.flow(ctx, id)
		w.mu.Lock()
		if err != nil {
			return err
		}
		if f = w.watched[id]; f == nil {
			f = &watchedFlow{}
			w.watched[id] = f
		}
		f.stopped = f.stopped || row.Stopping()
	}
	f.users++
	if !w.looking && !w.closed {
		w.looking = true
		w.done.Go(w.look)
	}
	return nil
}

// close is for the end of the session; stop ends its context.
func (w *flowWatch) close(stop context.CancelFunc) {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	stop()
	w.done.Wait()
}

func (w *flowWatch) leave(id storage.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.watched[id]; f != nil {
		f.users--
	}
}

func (w *flowWatch) stopped(id storage.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.watched[id]
	return f != nil && f.stopped
}

// told takes in flows that a write of this process moved.
func (w *flowWatch) told(flows []storage.Flow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range flows {
		if f := w.watched[flows[i].ID]; f != nil {
			f.stopped = flows[i].Stopping()
		}
	}
}

// look reads the watched flows now and then, as long as there are any.
func (w *flowWatch) look() {
	for sleep(w.ctx, flowWatchEvery) {
		ids := w.inUse()
		if len(ids) == 0 {
			return
		}
		flows, err := w.s.store.Flows(w.ctx, storage.FlowFilter{IDs: ids, Limit: len(ids)})
		if err != nil {
			if w.ctx.Err() == nil {
				w.s.cfg.Logger.WarnContext(w.ctx, "looking whether flows were stopped", keyError, err)
			}
			continue
		}
		w.told(flows)
	}
}

// inUse forgets what nobody watches, and says so to the next that joins where nothing
// is left.
func (w *flowWatch) inUse() []storage.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []storage.ID
	for id, f := range w.watched {
		if f.users == 0 {
			delete(w.watched, id)
			continue
		}
		ids = append(ids, id)
	}
	w.looking = len(ids) > 0
	return ids
}
