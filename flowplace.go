package sequencer

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// flowPlace is where an execution stands in its flow, and that one in those around it.
// None of it ever changes.
type flowPlace struct {
	id      storage.ID
	kind    storage.FlowKind
	method  string // of a run: its orchestrator
	name    string
	options []byte
	// standIn is the row that stands for this flow in the one around it, and outer the
	// place of that; nil for an outermost flow.
	standIn *storage.Execution
	outer   *flowPlace
}

// place is where the attempt's execution stands; nil without a flow. It is read once,
// the first time that it is asked for.
func (a *Attempt) place(ctx context.Context) (*flowPlace, error) {
	if a.seq == nil || a.exec.FlowID.IsZero() {
		return nil, nil //nolint:nilnil // there is none
	}
	a.flow.mu.Lock()
	defer a.flow.mu.Unlock()
	if a.flow.place == nil {
		p, err := a.session.flows.place(ctx, a.seq, a.exec.FlowID)
		if err != nil {
			return nil, fmt.Errorf("reading the flow of %s: %w", a.Name, err)
		}
		a.flow.place = p
	}
	return a.flow.place, nil
}

// innermost is the next flow of a kind around what runs, itself included, and whether
// what runs is one of its members rather than part of a callback of it.
func (p *flowPlace) innermost(kind storage.FlowKind, row *storage.Execution) (found *flowPlace, member bool) {
	member = true
	for ; p != nil; p = p.outer {
		member = member && row.Kind != storage.KindCallback
		if p.is(kind) {
			return p, member
		}
		row = p.standIn
	}
	return nil, false
}

// is reports whether it is a flow of a kind. A run that a batch orchestrator arranged is
// a batch to its members (W19).
func (p *flowPlace) is(kind storage.FlowKind) bool {
	if p.kind != storage.FlowRun {
		return p.kind == kind
	}
	switch p.method {
	case methodBatch, methodTransactional, methodAllowedToFail:
		return kind == storage.FlowBatch
	}
	return false
}

// catches is the callback that what runs is, or is part of, if that is a catch; else nil.
func (p *flowPlace) catches(row *storage.Execution) *storage.Execution {
	for row != nil {
		if row.Kind == storage.KindCallback {
			if row.Method == string(storage.RoleCatch) {
				return row
			}
			return nil
		}
		if p == nil {
			return nil
		}
		row, p = p.standIn, p.outer
	}
	return nil
}
