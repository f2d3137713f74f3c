package memory

import (
	"bytes"
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// Finish implements [storage.Queue].
func (s *Store) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	var done storage.Finished
	err := s.write(ctx, r.Now, func(t *tx) (err error) {
		done.Applied = make([]bool, len(r.Outcomes))
		var endings []settle.Ending
		for i, o := range r.Outcomes {
			for _, name := range o.Unlock {
				t.unlock(storage.UnlockRequest{Name: name, Worker: r.Worker, Execution: o.ID, Delivery: o.Delivery})
			}
			e := t.held(r.Worker, o.ID, o.Delivery)
			if e == nil {
				continue
			}
			if !e.State.CanBecome(o.State) {
				return &storage.TransitionError{ID: e.ID, Name: e.Name, From: e.State, To: o.State}
			}
			done.Applied[i] = true
			if o.State == storage.Pending && e.cancel && e.Kind != storage.Hook {
				o = o.Stopped()
				done.Stop(i, len(r.Outcomes))
			}
			if o.Drops() {
				t.drop(e, &o)
				continue
			}
			t.apply(e, o)
			if o.State.Over() {
				end := e.ending()
				end.Adds = o.Added()
				endings = append(endings, end)
			}
		}
		if done.Flows, err = settle.Endings(ctx, t, t.now, endings); err != nil {
			return err
		}
		t.insertHooks(r.Hooks(done.Applied))
		if r.Claim != nil {
			claim := *r.Claim
			claim.Worker = r.Worker
			done.Claimed, err = t.claim(claim)
		}
		return err
	})
	if err != nil {
		return storage.Finished{}, err
	}
	return done, nil
}

// Checkpoint implements [storage.Queue].
func (s *Store) Checkpoint(ctx context.Context, r storage.CheckpointRequest) error {
	return s.write(ctx, r.Now, func(t *tx) error {
		e := t.held(r.Worker, r.ID, r.Delivery)
		if e == nil {
			return storage.ErrLeaseLost
		}
		t.change(e, func() {
			e.Checkpoint = bytes.Clone(r.Data)
			if r.Moved {
				e.Losses = 0
			}
		})
		return nil
	})
}

// held is the fence: the row, if the worker still runs it at this delivery.
func (s *Store) held(worker, id storage.ID, delivery int) *row {
	r := s.rows[id]
	if r == nil || r.State != storage.Running || r.WorkerID != worker || r.Delivery != delivery {
		return nil
	}
	return r
}

// apply writes one outcome: its attempt, its statistics, and the row.
func (t *tx) apply(r *row, o storage.Outcome) {
	if o.Failure != nil {
		t.addAttempt(r, o)
	}
	t.count(r, o)
	t.change(r, func() {
		r.State, r.Reason, r.ForNow, r.Environment = o.State, o.Reason, o.ForNow, o.Env
		r.Errors, r.Losses, r.Parked = o.Errors, o.Losses, false
		if o.Excuse {
			r.Excused++
		}
		if o.Failure != nil {
			r.LastError, r.ErrorGroup = shortened(o.Failure.Message), o.Failure.Group
		}
		if o.Result != nil {
			r.Result = bytes.Clone(o.Result)
		}
		if o.Progress != nil {
			r.Done, r.Total = o.Progress.Done, o.Progress.Total
		}
		if o.State.Over() {
			r.FinishedAt, r.cancel = t.now, false
			return
		}
		r.Parked = o.Park
		r.dueAfter(t.now, o.Delay)
		if o.Rewind {
			r.deadlineAnew()
		}
		if !r.private() {
			r.WorkerID = storage.ID{}
		}
	})
}

func (t *tx) addAttempt(r *row, o storage.Outcome) {
	t.log(storage.Attempt{
		ExecutionID: r.ID, Delivery: r.Delivery, Number: r.Attempts(), WorkerID: r.WorkerID,
		StartedAt: t.now.Add(-o.Ran).Truncate(time.Microsecond), FinishedAt: t.now, Failure: *o.Failure,
	})
}

func (t *tx) log(a storage.Attempt) {
	t.attempts[a.ExecutionID] = append(t.attempts[a.ExecutionID], a)
	t.onRollback(func() { t.attempts[a.ExecutionID] = t.attempts[a.ExecutionID][:len(t.attempts[a.ExecutionID])-1] })
}

// statKey names a row of the statistics.
type statKey struct {
	minute              time.Time
	queue, name, ending string
}

// count adds an outcome to the statistics. A delivery that cost no attempt is no
// retry and leaves no trace there.
func (t *tx) count(r *row, o storage.Outcome) {
	ending := string(o.State)
	if o.State == storage.Pending {
		if o.Excuse {
			return
		}
		ending = "retried"
	}
	for queue := range storage.CountedUnder(r.Kind, r.Queue, &o) {
		t.raise(statKey{t.now.Truncate(time.Minute), queue, r.Name, ending}, r.DueAt, o.Ran)
	}
}

// raise adds one outcome to a row of the statistics.
func (t *tx) raise(key statKey, due time.Time, ran time.Duration) {
	was, had := t.stats[key]
	sum := was
	sum.Minute, sum.Name, sum.Ending = key.minute, key.name, key.ending
	sum.N++
	sum.Ran += ran
	if waited := t.now.Add(-ran).Sub(due); waited > 0 {
		sum.Waited += waited
	}
	t.stats[key] = sum
	t.onRollback(func() {
		if had {
			t.stats[key] = was
		} else {
			delete(t.stats, key)
		}
	})
}

// shortened cuts an error message to what a row carries; the attempt keeps it whole.
func shortened(message string) string {
	const most = 1024
	if len(message) <= most {
		return message
	}
	cut := most
	for cut > 0 && message[cut]&0xc0 == 0x80 { // never inside a character
		cut--
	}
	return message[:cut]
}
