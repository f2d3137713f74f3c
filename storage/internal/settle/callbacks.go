package settle

import (
	"context"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

// fire is rule 7: it expands the callbacks whose role is due.
func (w *work) fire(ctx context.Context, f *storage.Flow) error {
	ended := w.progress[f.ID]
	delete(w.progress, f.ID)
	for _, role := range f.Due(ended) {
		if err := w.expand(ctx, f, role); err != nil {
			return err
		}
	}
	if f.FinallyDue() {
		return w.expand(ctx, f, storage.RoleFinally)
	}
	return nil
}

// turn tells one firing of progress in a generation from the others: by how many
// members ended, or by the next number that is free, because a member whose end was
// resolved ends twice.
func (w *work) turn(ctx context.Context, f *storage.Flow, role storage.Role, callbacks []storage.Callback) (int, error) {
	first := slices.IndexFunc(callbacks, func(c storage.Callback) bool { return c.Role == role && len(c.Executions) > 0 })
	if role != storage.RoleProgress || first < 0 {
		return 0, nil
	}
	template := callbacks[first].Executions[0].ID
	for turn := f.Total - f.Open(); ; turn += f.Total + 1 {
		found, err := w.rows.Find(ctx, []storage.ID{storage.CallbackID(f.ID, template, f.Generation, turn)})
		if err != nil || len(found) == 0 {
			return turn, err
		}
	}
}

// expand turns the templates of a role into rows.
func (w *work) expand(ctx context.Context, f *storage.Flow, role storage.Role) error {
	callbacks, known := w.callbacks[f.ID]
	if !known {
		var err error
		if callbacks, err = w.rows.Callbacks(ctx, f.ID); err != nil {
			return err
		}
		w.callbacks[f.ID] = callbacks
	}
	turn, err := w.turn(ctx, f, role, callbacks)
	if err != nil {
		return err
	}
	of := func(template storage.ID) storage.ID {
		if template.IsZero() {
			return template
		}
		return storage.CallbackID(f.ID, template, f.Generation, turn)
	}
	for i := range callbacks {
		c := &callbacks[i]
		if c.Role != role {
			continue
		}
		var flows []storage.Flow
		for _, n := range c.Flows {
			n.ID, n.ParentID = of(n.ID), of(n.ParentID)
			flows = append(flows, n)
		}
		var members []storage.Execution
		for _, e := range c.Executions {
			e.ID = of(e.ID)
			if e.FlowID.IsZero() {
				e.FlowID, e.Kind, e.Method = f.ID, storage.KindCallback, string(role)
				if role == storage.RoleCatch {
					e.Undoes = f.FailedID
				}
			} else {
				e.FlowID = of(e.FlowID)
			}
			members = append(members, e)
		}
		var edges []storage.Edge
		for _, e := range c.Edges {
			edges = append(edges, storage.Edge{From: of(e.From), To: of(e.To), Needs: e.Needs})
		}
		p, err := Plan(w.now, flows, members, edges, f)
		if err != nil {
			return err
		}
		f.CallbacksBegin(role, p.Gain.CallbacksOpen)
		if err := w.rows.Insert(ctx, w.now, p.Insertion); err != nil {
			return err
		}
	}
	return nil
}
