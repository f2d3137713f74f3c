package redis

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// PendingNested implements [settle.Rows].
func (u *unit) PendingNested(ctx context.Context, flow storage.ID) ([]storage.ID, error) {
	members, err := u.members(ctx, flow)
	var nested []storage.ID
	for _, r := range members {
		if r.Kind == storage.Nested && r.State == storage.Pending {
			nested = append(nested, r.ID)
		}
	}
	return nested, err
}

// Children implements [settle.Rows]. Which flow a row stands for never changes.
func (u *unit) Children(ctx context.Context, parents []storage.ID) ([]storage.Flow, error) {
	if len(parents) == 0 {
		return nil, nil
	}
	var ids []storage.ID
	wanted := make([]string, len(parents))
	for i, id := range parents {
		wanted[i] = string(id[:])
		for _, f := range u.flows {
			if f.opened && f.ParentID == id {
				ids = append(ids, f.ID)
			}
		}
	}
	values, err := u.s.client.HMGet(ctx, u.s.key("nested"), wanted...).Result()
	if err != nil {
		return nil, err
	}
	for _, value := range values {
		if value != nil {
			ids = append(ids, idOf(text(value)))
		}
	}
	if err := u.readFlows(ctx, ids...); err != nil {
		return nil, err
	}
	return u.locked(ids), nil
}

// EndNested implements [settle.Rows].
func (u *unit) EndNested(ctx context.Context, _ time.Time, end settle.Nested) (settle.Ending, storage.State, error) {
	r, err := u.get(ctx, end.ID)
	if err != nil || r == nil || r.State != storage.Pending && r.State != storage.Interrupted {
		return settle.Ending{}, "", err
	}
	was := r.State
	u.endRow(r, end)
	return ending(r), was, nil
}

// Find implements [settle.Rows].
func (u *unit) Find(ctx context.Context, ids []storage.ID) ([]settle.Ending, error) {
	if err := u.read(ctx, ids...); err != nil {
		return nil, err
	}
	var found []settle.Ending
	for _, id := range ids {
		if r := u.rows[id].now; r != nil {
			found = append(found, ending(r))
		}
	}
	return found, nil
}

// Callbacks implements [settle.Rows].
func (u *unit) Callbacks(ctx context.Context, id storage.ID) ([]storage.Callback, error) {
	f, err := u.flow(ctx, id)
	if err != nil || f == nil {
		return nil, err
	}
	stored, err := u.callbacks(ctx, f)
	if err != nil {
		return nil, err
	}
	return storage.DecodeCallbacks(stored)
}

// callbacks reads what is stored of a flow's callbacks. Its version is the check.
func (u *unit) callbacks(ctx context.Context, f *flow) ([]byte, error) {
	if f.callbacks == nil {
		stored, err := u.s.callbacks(ctx, f.ID)
		if err != nil {
			return nil, err
		}
		f.callbacks = &stored
	}
	return *f.callbacks, nil
}

func (s *Store) callbacks(ctx context.Context, flow storage.ID) ([]byte, error) {
	stored, err := s.client.HGet(ctx, s.key("callbacks"), string(flow[:])).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return stored, err
}

// Held implements [settle.Rows].
func (u *unit) Held(ctx context.Context, _ time.Time, keys []string) ([]bool, error) {
	wanted := make([]storage.Execution, len(keys))
	for i, key := range keys {
		wanted[i].UniqueKey = key
	}
	err := u.readHolders(ctx, wanted)
	held := make([]bool, len(keys))
	for i := range wanted {
		held[i] = u.holder(&wanted[i]) != nil
	}
	return held, err
}

// Hold implements [settle.Rows].
func (u *unit) Hold(ctx context.Context, rows []storage.ID) error {
	err := u.read(ctx, rows...)
	for _, id := range rows {
		if r := u.rows[id].now; r != nil && r.State == storage.Pending {
			r.Waits++
			r.DueAt, r.DeadlineAt = time.Time{}, time.Time{}
		}
	}
	return err
}

// Fallen implements [settle.Rows].
func (u *unit) Fallen(ctx context.Context, flow storage.ID) ([]settle.Ending, error) {
	members, err := u.members(ctx, flow)
	var fallen []settle.Ending
	for _, r := range members {
		if r.Kind != storage.Undo && r.Kind != storage.KindCallback && r.State.Over() && r.State.CanBecome(storage.Pending) {
			fallen = append(fallen, ending(r))
		}
	}
	return fallen, err
}

// Retake implements [settle.Rows]. What a row waits for is counted again: edges from
// members that are open, the others are settled for good.
func (u *unit) Retake(ctx context.Context, _ time.Time, o storage.Order, ids []storage.ID) error {
	if err := u.read(ctx, ids...); err != nil {
		return err
	}
	wanted := make([]storage.Execution, len(ids))
	for i, id := range ids {
		wanted[i] = u.rows[id].now.Execution
	}
	if err := u.readHolders(ctx, wanted); err != nil {
		return err
	}
	for _, id := range ids {
		r := u.rows[id].now
		if h := u.holder(&r.Execution); h != nil {
			return &storage.DuplicateError{Name: r.Name, Key: r.UniqueKey, HolderID: h.ID}
		}
		r.State, r.FinishedAt, r.Reason, r.ForNow, r.Environment = storage.Pending, time.Time{}, "", false, ""
		r.Errors, r.Losses, r.Excused = 0, 0, r.Delivery
		r.Parked, r.stop, r.Waits = false, false, 0
		r.Queue = cmp.Or(o.Queue, r.Queue)
		r.WorkerID = storage.ID{}
		if private(r.Queue) {
			r.WorkerID = o.Home
		}
		u.dueAfter(r, 0)
		deadlineAnew(r)
		u.takeKey(r)
	}
	if err := u.homed(ctx, o.Home); err != nil {
		return err
	}
	before, err := u.comingBefore(ctx, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := u.waitAgain(ctx, u.rows[id].now, before[id]); err != nil {
			return err
		}
	}
	return nil
}

// comingBefore reads where the edges to rows come from, and those rows.
func (u *unit) comingBefore(ctx context.Context, ids []storage.ID) (map[storage.ID][]storage.ID, error) {
	before := make(map[storage.ID][]storage.ID, len(ids))
	around, in := map[*flow]bool{}, map[storage.ID]*flow{}
	for _, id := range ids {
		f, err := u.flow(ctx, u.rows[id].now.FlowID)
		if err != nil {
			return nil, err
		}
		if f != nil {
			around[f], in[id] = true, f
		}
	}
	var all []storage.ID
	for f := range around {
		for _, hash := range []*edges{&f.leaving, &f.entering} {
			if err := u.allEdges(ctx, hash); err != nil {
				return nil, err
			}
			for from, list := range hash.of {
				for _, e := range list {
					if in[e.To] == f { // what leads into another flow is kept there too
						before[e.To] = append(before[e.To], from)
						all = append(all, from)
					}
				}
			}
		}
	}
	return before, u.read(ctx, all...)
}

func (u *unit) waitAgain(ctx context.Context, r *row, from []storage.ID) error {
	waits := 0
	for _, id := range from {
		if before := u.rows[id].now; before != nil && !before.State.Over() {
			waits++
		}
	}
	if r.Kind == storage.Nested || r.Kind == storage.KindCallback {
		children, err := u.Children(ctx, []storage.ID{r.ID})
		if err != nil {
			return err
		}
		for i := range children {
			if !children[i].Over() {
				waits++
			}
		}
	}
	if waits > 0 {
		r.Waits, r.DueAt, r.DeadlineAt = waits, time.Time{}, time.Time{}
	}
	return nil
}
