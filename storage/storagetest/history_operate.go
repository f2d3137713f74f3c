package storagetest

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/gosequencer/sequencer/storage"
)

func (h *history) checkpoint() {
	running := h.rows(storage.Running)
	if len(running) == 0 {
		h.rt.Skip("nothing runs")
	}
	e := pick(h, "row", running...)
	r := storage.CheckpointRequest{Now: h.now, Worker: e.WorkerID, ID: e.ID, Delivery: e.Delivery, Data: []byte("cursor"), Moved: h.chance(2, "moved")}
	if h.chance(4, "late") {
		r.Delivery--
	}
	write(h, "Checkpoint", r, func(s storage.Store) (struct{}, error) { return struct{}{}, s.Checkpoint(h.ctx, r) })
}

func (h *history) renew() {
	r := storage.RenewRequest{Now: h.now, Worker: h.worker(), Lease: longLease}
	for _, e := range h.rows(storage.Running) {
		r.Progress = append(r.Progress, storage.Progress{ID: e.ID, Delivery: e.Delivery, Done: int64(h.made), Total: 1 << 40})
	}
	write(h, "Renew", r, func(s storage.Store) (storage.Renewed, error) {
		got, err := s.Renew(h.ctx, r)
		slices.SortFunc(got.Cancelled, byText)
		return got, err
	})
}

func (h *history) rescue() {
	r := storage.RescueRequest{Now: h.now, Worker: h.worker(), Limit: 1000}
	if dead := h.worker(); dead != r.Worker && h.chance(2, "proved dead") {
		r.Dead = []storage.ID{dead}
	}
	got := write(h, "Rescue", r, func(s storage.Store) ([]storage.Execution, error) {
		got, err := s.Rescue(h.ctx, r)
		slices.SortFunc(got, func(a, b storage.Execution) int { return byText(a.ID, b.ID) })
		return got, err
	})
	for _, e := range got {
		began, known := h.began[delivery{e.ID, e.Delivery - 1}]
		if e.State != storage.Running || !known {
			began = h.now
		}
		h.began[delivery{e.ID, e.Delivery}] = began
	}
}

func byText(a, b storage.ID) int { return cmp.Compare(a.String(), b.String()) }

func (h *history) lock() {
	w, name := h.worker(), h.name("lock")
	holder := pick(h, "holder", storage.ID{}, numberedID(1), numberedID(2))
	if h.chance(3, "unlock") {
		r := storage.UnlockRequest{Name: name, Worker: w, Execution: holder, Delivery: pick(h, "delivery", 1, 2)}
		write(h, "Unlock", r, func(s storage.Store) (struct{}, error) { return struct{}{}, s.Unlock(h.ctx, r) })
		return
	}
	r := storage.LockRequest{Now: h.now, Name: name, Worker: w, Execution: holder, Delivery: pick(h, "delivery", 1, 2), For: pick(h, "for", 0, 0, time.Minute)}
	write(h, "Lock", r, func(s storage.Store) (struct{}, error) { return struct{}{}, s.Lock(h.ctx, r) })
}

// take draws one or two limits out of few, so that they meet.
func (h *history) take() {
	r := storage.TakeRequest{Now: h.now, Action: pick(h, "action", storage.TakeOne, storage.TakeOne, storage.TakeOne, storage.TakeLook, storage.TakeReset)}
	for _, n := range pick(h, "limits", []int{1}, []int{2}, []int{2, 1}, []int{1, 2}, []int{0, 1}) {
		r.Limits = append(r.Limits, storage.Limit{Name: h.name("limit"), By: pick(h, "by", "", "a"), N: n, Window: time.Duration(n+1) * time.Minute})
	}
	write(h, "Take", r, func(s storage.Store) (storage.Taken, error) { return s.Take(h.ctx, r) })
}

// operate draws an order that is legal for one row at least.
func (h *history) operate() {
	o := storage.Order{Now: h.now, Actor: "grace@lab", Reason: "because", Action: pick(h, "action",
		storage.ActRetry, storage.ActRetry, storage.ActCancel, storage.ActComplete, storage.ActFail, storage.ActForget, storage.ActReschedule,
		storage.ActApprove, storage.ActReject)}
	from := map[storage.Action][]storage.State{
		storage.ActRetry:      {storage.Failed, storage.Cancelled, storage.Interrupted},
		storage.ActCancel:     {storage.Pending, storage.Running},
		storage.ActComplete:   {storage.Interrupted},
		storage.ActFail:       {storage.Interrupted},
		storage.ActReschedule: {storage.Pending},
		storage.ActApprove:    {storage.Pending},
		storage.ActReject:     {storage.Pending},
		storage.ActForget:     {storage.Completed, storage.Failed, storage.Skipped, storage.Cancelled, storage.Interrupted, storage.RolledBack},
	}[o.Action]
	legal := h.rows(from...)
	if o.Action == storage.ActApprove || o.Action == storage.ActReject {
		legal = slices.DeleteFunc(legal, func(e storage.Execution) bool { return e.Kind != storage.KindApproval })
	}
	if len(legal) == 0 {
		h.rt.Skip("nothing to operate on")
	}
	for range rapid.IntRange(1, 3).Draw(h.rt, "rows") {
		if id := pick(h, "row", legal...).ID; !slices.Contains(o.IDs, id) {
			o.IDs = append(o.IDs, id)
		}
	}
	if h.chance(8, "stray row") {
		o.IDs = append(o.IDs, pick(h, "row", h.rows()...).ID)
	}
	if o.Action == storage.ActReschedule {
		o.Delay = pick(h, "delay", 0, time.Second, time.Minute)
	}
	if o.Action == storage.ActRetry && h.chance(3, "move") {
		o.Home = h.worker()
		o.Queue = pick(h, "queue", h.queue("two"), h.private(o.Home))
	}
	write(h, "Operate", o, func(s storage.Store) ([]storage.Execution, error) {
		after, err := s.Operate(h.ctx, o)
		if err != nil && len(o.IDs) > 1 {
			err = errors.New("refused") // which of several reasons comes first is the store's affair
		}
		return after, err
	})
	if o.Action == storage.ActForget { // a request is recognised by its rows
		h.past = slices.DeleteFunc(h.past, func(r storage.EnqueueRequest) bool {
			return slices.ContainsFunc(r.Executions, func(e storage.Execution) bool { return slices.Contains(o.IDs, e.ID) })
		})
	}
}

// pause stops or resumes a queue, an operation or the schedule of the history.
func (h *history) pause() {
	o := storage.Order{Now: h.now, Actor: "grace@lab", Reason: "because", Action: pick(h, "action", storage.ActPause, storage.ActResume)}
	o.Pause = pick(h, "pause",
		storage.Pause{Kind: storage.PauseQueue, Name: h.queue("one")}, storage.Pause{Kind: storage.PauseQueue, Name: h.private(h.worker())},
		storage.Pause{Kind: storage.PauseOperation, Name: h.name("a")}, storage.Pause{Kind: storage.PauseOperation, Name: h.name("b")},
		storage.Pause{Kind: storage.PauseSchedule, Name: h.name("schedule")})
	write(h, "Operate", o, func(s storage.Store) ([]storage.Execution, error) { return s.Operate(h.ctx, o) })
}

// schedule announces the schedule of the history, or fires a tick of it.
func (h *history) schedule() {
	if h.chance(3, "announce") {
		r := storage.AnnounceRequest{Now: h.now, Schedules: []storage.Schedule{{
			Name: h.name("schedule"), Spec: pick(h, "spec", "x", "x", "y"), Operation: h.name("a"), Queue: h.queue("one"),
			Missed: pick(h, "missed", "once", "skip"), Build: int64(rapid.IntRange(0, 2).Draw(h.rt, "build")),
		}}}
		write(h, "Announce", r, func(s storage.Store) (struct{}, error) { return struct{}{}, s.Announce(h.ctx, r) })
		return
	}
	r := storage.EnqueueRequest{Tick: &storage.Tick{Schedule: h.name("schedule"), At: h.now.Add(pick(h, "tick at", 0, 0, -time.Second, time.Second))}}
	for range rapid.IntRange(0, 2).Draw(h.rt, "rows") {
		r.Executions = append(r.Executions, h.execution())
	}
	h.past = append(h.past, r)
	h.send(r)
}
