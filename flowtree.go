package sequencer

import (
	"context"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

// FlowTree is a flow with all that is in it, as the ledger has it at one moment.
type FlowTree struct {
	FlowStatus

	Members   []FlowMember       `json:"members"`             // by position
	Rollbacks []FlowMember       `json:"rollbacks,omitempty"` // what undoes members
	Callbacks []FlowMember       `json:"callbacks,omitempty"` // that were called, in every generation
	Uncalled  []UncalledCallback `json:"uncalled,omitempty"`  // that are not due yet, or never will be
}

// FlowMember is one execution of a flow.
type FlowMember struct {
	storage.Execution

	// After is what it comes after, in this flow, and Awaits those of them that are not
	// over: what it waits for.
	After  []storage.ID `json:"after,omitempty"`
	Awaits []storage.ID `json:"awaits,omitempty"`
	// Flow is what it stands for, if that is a batch or chain.
	Flow *FlowTree `json:"nested,omitempty"`
}

// UncalledCallback is a callback that has not been called in this generation.
type UncalledCallback struct {
	Role storage.Role `json:"role"`
	Name string       `json:"name"`
}

// Flows lists how flows stand, the newest first. Members that run are counted as
// pending.
func (s *Sequencer) Flows(ctx context.Context, filter storage.FlowFilter) ([]FlowStatus, error) {
	flows, err := s.store.Flows(ctx, filter)
	if err != nil {
		return nil, err
	}
	list := make([]FlowStatus, len(flows))
	for i := range flows {
		list[i] = statusOf(&flows[i])
	}
	return list, nil
}

// Tree reads the whole of a flow.
func (f *Flow) Tree(ctx context.Context) (*FlowTree, error) {
	row, err := f.s.flow(ctx, f.id)
	if err != nil {
		return nil, err
	}
	nest, err := f.s.nest(ctx, row.RootID)
	if err != nil {
		return nil, err
	}
	return f.s.flowTree(ctx, &row, nest)
}

func (s *Sequencer) flowTree(ctx context.Context, f *storage.Flow, nest map[storage.ID]*storage.Flow) (*FlowTree, error) {
	t := &FlowTree{FlowStatus: statusOf(f)}
	rows, err := s.members(ctx, f.ID)
	if err != nil {
		return nil, err
	}
	edges, err := s.store.Edges(ctx, f.ID)
	if err != nil {
		return nil, err
	}
	states := make(map[storage.ID]storage.State, len(rows))
	for i := range rows {
		states[rows[i].ID] = rows[i].State
	}
	after := map[storage.ID][]storage.ID{}
	for _, e := range edges {
		after[e.To] = append(after[e.To], e.From)
	}
	called := map[string]bool{}
	for i := range rows {
		m := FlowMember{Execution: rows[i], After: after[rows[i].ID]}
		if !m.State.Over() {
			m.Awaits = slices.DeleteFunc(slices.Clone(m.After), func(id storage.ID) bool { return states[id].Over() })
		}
		if inner := nest[m.ID]; inner != nil {
			if m.Flow, err = s.flowTree(ctx, inner, nest); err != nil {
				return nil, err
			}
		}
		switch m.Kind {
		case storage.KindCallback:
			called[m.Method] = true
			t.Callbacks = append(t.Callbacks, m)
		case storage.Undo:
			if f.Kind != storage.FlowRollback {
				t.Rollbacks = append(t.Rollbacks, m)
				continue
			}
			t.Members = append(t.Members, m)
		case storage.Ordered, storage.Unlisted, storage.Migration, storage.Nested:
			if m.State == storage.Running && t.Pending > 0 {
				t.Pending--
				t.Running++
			}
			t.Members = append(t.Members, m)
		case storage.Hook, storage.KindApproval: // belongs to no flow
		}
	}
	return t, s.uncalled(ctx, f, t, called)
}

// uncalled adds the callbacks of roles that were never called.
func (s *Sequencer) uncalled(ctx context.Context, f *storage.Flow, t *FlowTree, called map[string]bool) error {
	if f.Roles == 0 {
		return nil
	}
	callbacks, err := s.store.Callbacks(ctx, f.ID)
	if err != nil {
		return err
	}
	for _, c := range callbacks {
		if called[string(c.Role)] {
			continue
		}
		for i := range c.Executions {
			if c.Executions[i].FlowID.IsZero() {
				t.Uncalled = append(t.Uncalled, UncalledCallback{Role: c.Role, Name: c.Executions[i].Name})
			}
		}
	}
	return nil
}
