//go:build linux

package crashtest_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// setBack is a store on a machine, or a server, whose clock is slow.
type setBack struct {
	storage.Store
	by time.Duration
}

func (s *setBack) now() time.Time { return time.Now().Add(-s.by) }

func (s *setBack) Enqueue(ctx context.Context, r storage.EnqueueRequest) (storage.Enqueued, error) {
	r.Now = s.now()
	return s.Store.Enqueue(ctx, r)
}

func (s *setBack) Claim(ctx context.Context, r storage.ClaimRequest) (storage.Claimed, error) {
	r.Now = s.now()
	return s.Store.Claim(ctx, r)
}

func (s *setBack) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	r.Now = s.now()
	return s.Store.Finish(ctx, r)
}

func (s *setBack) Join(ctx context.Context, w storage.Worker) error {
	w.JoinedAt = s.now()
	return s.Store.Join(ctx, w)
}

func (s *setBack) Renew(ctx context.Context, r storage.RenewRequest) (storage.Renewed, error) {
	r.Now = s.now()
	return s.Store.Renew(ctx, r)
}

func (s *setBack) Rescue(ctx context.Context, r storage.RescueRequest) ([]storage.Execution, error) {
	r.Now = s.now()
	return s.Store.Rescue(ctx, r)
}

// What was dispatched before waits until the clock has come as far again; what died
// with a worker is taken over, and what is new runs. Nothing is lost, nothing runs twice.
func TestCrashAndAClockSetBackAnHourLoseNothing_Q2_14(t *testing.T) {
	t.Parallel()
	mails := func(all jobs) []sequencer.Operation {
		return []sequencer.Operation{all.mail(job{}), all.mail(job{}), all.mail(job{})}
	}
	onBackends(t, every, func(t *testing.T, b backend) {
		s := newShift(t, b.at(t))
		s.dispatch(t, mails)
		gone := killWorker(t, inOneSlot(s), "mail/after")
		within(t, s.Place, func(l *ledger) {
			s.Idle = time.Millisecond
			slow := *l
			slow.Store, slow.db = &setBack{l.Store, time.Hour}, nil
			journal, err := os.OpenFile(s.Journal, os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer journal.Close()
			seq, all, err := s.sequencer(&slow, &desk{journal: journal, point: func(string) error { return nil }})
			if err == nil {
				_, err = seq.DispatchAll(t.Context(), mails(all)...)
			}
			if err == nil {
				err = seq.Work(t.Context(), sequencer.WorkerConfig{StopWhenEmpty: true})
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		if n := s.left(t); n != 2 {
			t.Errorf("%d executions are left, want the two that were dispatched before and wait", n)
		}
		mustWork(t, s)
		s.backwards = true
		c := count(t, s, gone)
		c.wantStates(t, map[string]int{"mail completed": 6})
		if c.lost != 1 {
			t.Errorf("%d attempts were lost, want 1", c.lost)
		}
	})
}
