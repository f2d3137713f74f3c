package sequencer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// KeepForever is a retention without end.
const KeepForever time.Duration = math.MaxInt64

// Retention is how long history is kept after an execution ended, by how it ended.
// A zero field has its default. Never deleted are migrations, approvals, what is not over,
// members of flows that are not over, and the newest row of each ordered operation,
// which is what a run knows it by.
type Retention struct {
	Completed time.Duration // default 7 days
	Failed    time.Duration // default 30 days
	Others    time.Duration // skipped, cancelled, interrupted, rolled back; default 7 days
}

const (
	day = 24 * time.Hour
	// pruneEvery is how often some worker deletes what is too old.
	pruneEvery = time.Hour
	// pruneSlice is how many executions one transaction deletes, so that nobody waits
	// long for it.
	pruneSlice = 1000
	// pruneLock lets one worker at a time do it.
	pruneLock = "prune"
)

func (r Retention) normal() Retention {
	return Retention{
		Completed: cmp.Or(r.Completed, 7*day), Failed: cmp.Or(r.Failed, 30*day), Others: cmp.Or(r.Others, 7*day),
	}
}

// request is the store's form of it, where 0 keeps for ever.
func (r Retention) request() storage.PruneRequest {
	age := func(d time.Duration) time.Duration {
		if d == KeepForever {
			return 0
		}
		return d
	}
	return storage.PruneRequest{Completed: age(r.Completed), Failed: age(r.Failed), Others: age(r.Others), Limit: pruneSlice}
}

// Prune deletes history that is older than keep says, a slice at a time, and
// returns how many executions went. Workers do it by themselves, every hour, with
// Config.Retention; a zero field of keep stands for the one there.
func (s *Sequencer) Prune(ctx context.Context, keep Retention) (int, error) {
	own := s.cfg.Retention
	keep = Retention{
		Completed: cmp.Or(keep.Completed, own.Completed), Failed: cmp.Or(keep.Failed, own.Failed), Others: cmp.Or(keep.Others, own.Others),
	}
	total := 0
	for {
		n, err := s.store.Prune(ctx, keep.request())
		total += n
		if err != nil {
			return total, fmt.Errorf("pruning: %w", err)
		}
		if n < pruneSlice {
			return total, nil
		}
	}
}

// prune is Prune as workers do it: one at a time, and not at all where another is
// at it.
func (s *Sequencer) prune(ctx context.Context, sess session) (int, error) {
	err := s.store.Lock(ctx, storage.LockRequest{Name: pruneLock, Worker: sess.worker()})
	if _, held := errors.AsType[*storage.LockedError](err); held {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() {
		if err := s.store.Unlock(context.WithoutCancel(ctx), storage.UnlockRequest{Name: pruneLock, Worker: sess.worker()}); err != nil {
			s.cfg.Logger.WarnContext(ctx, "the lock on pruning was not freed; it ends with this worker", keyError, err)
		}
	}()
	n, err := s.Prune(ctx, Retention{})
	return n, errors.Join(err, s.withdrawApprovals(ctx))
}
