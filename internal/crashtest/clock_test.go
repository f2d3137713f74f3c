//go:build linux

package crashtest_test

import (
	"os"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/faketime"
	"github.com/gosequencer/sequencer/storage"
)

// setBack is a store on a machine, or a server, whose clock is slow.
func setBack(store storage.Store, by time.Duration) storage.Store {
	return faketime.New(store, func() time.Time { return time.Now().Add(-by) })
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
			slow.Store, slow.db = setBack(l.Store, time.Hour), nil
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
