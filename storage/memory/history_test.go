package memory

import (
	"fmt"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// run enqueues one execution and completes it, at an instant of its own.
func run(t *testing.T, s *Store, worker storage.ID, at time.Time, e storage.Execution) storage.ID {
	t.Helper()
	e.ID, e.Queue = storage.NewID(), "q"
	claim := storage.ClaimRequest{Now: at, Worker: worker, Queues: []string{"q"}, Limit: 1}
	got, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Now: at, Executions: []storage.Execution{e}, Claim: &claim})
	if err != nil || len(got.Claimed.Executions) != 1 {
		t.Fatalf("enqueue: %+v, %v", got, err)
	}
	_, err = s.Finish(t.Context(), storage.FinishRequest{Now: at, Worker: worker, Outcomes: []storage.Outcome{
		{ID: e.ID, Delivery: 1, State: storage.Completed},
	}})
	if err != nil {
		t.Fatalf("finish: %v", err)
	}
	return e.ID
}

func TestHistoryIsCappedByDroppingWhatEndedFirst(t *testing.T) {
	t.Parallel()
	s := New()
	s.maxHistory = 10
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	worker := storage.NewID()
	if err := s.Join(t.Context(), storage.Worker{ID: worker, JoinedAt: now}); err != nil {
		t.Fatal(err)
	}
	ordered := run(t, s, worker, now, storage.Execution{Name: "kept", Kind: storage.Ordered})
	for i := range 100 {
		now = now.Add(time.Second)
		run(t, s, worker, now, storage.Execution{Name: fmt.Sprintf("op-%02d", i), Kind: storage.Unlisted})
	}
	rows, err := s.Executions(t.Context(), storage.Filter{Oldest: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 10 || rows[0].ID != ordered || rows[1].Name != "op-91" || rows[9].Name != "op-99" {
		t.Errorf("%d rows from %s, %s to %s; want the ordered one and the nine newest",
			len(rows), rows[0].Name, rows[1].Name, rows[len(rows)-1].Name)
	}
	if n := len(s.ended); n > 2*10+1024+1 {
		t.Errorf("the log of endings holds %d entries for 10 rows", n)
	}
}

func TestAnErrorTakesBackWhatTheCallHadDone(t *testing.T) { // Q0.2
	t.Parallel()
	s := New()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	worker := storage.NewID()
	if err := s.Join(t.Context(), storage.Worker{ID: worker, JoinedAt: now}); err != nil {
		t.Fatal(err)
	}
	flow := storage.Flow{ID: storage.NewID(), Policy: storage.PolicyStop}
	a := storage.Execution{ID: storage.NewID(), Name: "a", Queue: "q", FlowID: flow.ID, UniqueKey: "k"}
	b := storage.Execution{ID: storage.NewID(), Name: "b", Queue: "q", FlowID: flow.ID}
	alien := storage.Execution{ID: storage.NewID(), Name: "alien", Queue: "q"}
	_, err := s.Enqueue(t.Context(), storage.EnqueueRequest{
		Now: now, Flows: []storage.Flow{flow}, Executions: []storage.Execution{a, b, alien},
		Edges: []storage.Edge{{From: a.ID, To: b.ID}, {From: b.ID, To: alien.ID}},
	})
	if err == nil {
		t.Fatal("an edge out of its flow was accepted")
	}
	if len(s.rows)+len(s.live)+len(s.holders)+len(s.named)+len(s.flows)+len(s.attempts)+len(s.stats) != 0 {
		t.Errorf("left behind: rows %v, live %v, holders %v, named %v, flows %v", s.rows, s.live, s.holders, s.named, s.flows)
	}
	got, err := s.Claim(t.Context(), storage.ClaimRequest{Now: now, Worker: worker, Queues: []string{"q"}, Limit: 10})
	if err != nil || len(got.Executions) != 0 || got.NextDue >= 0 {
		t.Errorf("claimed %+v, %v; want nothing", got, err)
	}
}

func TestMatches(t *testing.T) { // S32.5
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"ab", "ab", true},
		{"ab", "abc", false},
		{"*", "", true},
		{"a*", "a", true},
		{"*a", "ba", true},
		{"*a", "ab", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"a*b*a", "aba", true},
		{"a*b*a", "aa", false},
		{"*b*b*", "b", false},
		{"*b*b*", "abxb", true},
		{"**", "x", true},
		{"a_c", "abc", false},
		{"a?c", "abc", false},
		{"a%", "abc", false},
	} {
		if got := matches(c.pattern, c.name); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.pattern, c.name, got, c.want)
		}
	}
}
