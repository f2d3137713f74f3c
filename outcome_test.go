package sequencer

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

func TestConflictsInARowAreBounded_S7_9_Q2_17(t *testing.T) {
	t.Parallel()
	conflict := fmt.Errorf("commit: %w", storage.ErrConflict)
	one, many := 1, 10
	soon := time.Now().Add(time.Millisecond)
	for _, c := range []struct {
		name   string
		row    storage.Execution
		policy policy
		end    ending
		want   storage.Outcome
		noted  string
	}{
		{
			"the first is no attempt",
			storage.Execution{Errors: 3},
			policy{Tries: &one},
			ending{undone: true},
			storage.Outcome{State: storage.Pending, Delay: 50 * time.Millisecond, Excuse: true, Errors: 3, Losses: 1},
			"conflict",
		},
		{
			"the fourth comes after lost workers too",
			storage.Execution{Losses: 3},
			policy{Tries: &one, MaxExceptions: 1},
			ending{undone: true},
			storage.Outcome{State: storage.Pending, Delay: time.Second, Excuse: true, Losses: 4},
			"conflict",
		},
		{
			"the fifth is a failed attempt",
			storage.Execution{Losses: 4},
			policy{Tries: &one},
			ending{undone: true},
			storage.Outcome{State: storage.Failed, Errors: 1},
			"error",
		},
		{
			"which others may follow",
			storage.Execution{Losses: 4},
			policy{Tries: &many},
			ending{undone: true},
			storage.Outcome{State: storage.Pending, Errors: 1},
			"error",
		},
		{
			"Q1.14 there is no time for another",
			storage.Execution{DeadlineAt: soon},
			policy{Tries: &one},
			ending{undone: true, left: time.Millisecond},
			storage.Outcome{State: storage.Failed, Errors: 1},
			"error",
		},
		{
			"Q2.10 it was asked to stop",
			storage.Execution{},
			policy{Tries: &one},
			ending{undone: true, cause: ErrCancelled},
			storage.Outcome{State: storage.Cancelled, Reason: ErrCancelled.Error()},
			"",
		},
		{
			"what the handler met is its error",
			storage.Execution{},
			policy{Tries: &one},
			ending{},
			storage.Outcome{State: storage.Failed, Errors: 1},
			"error",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.row.Delivery = 1
			c.end.exec, c.end.policy, c.end.err, c.end.started = &c.row, c.policy, conflict, true
			got, why := decide(c.end)
			if (got.Failure == nil) != (c.noted == "") || got.Failure != nil && got.Failure.Outcome != c.noted {
				t.Errorf("noted is %+v, want %q", got.Failure, c.noted)
			}
			if c.noted != "" && !errors.Is(why, storage.ErrConflict) {
				t.Errorf("whoever waits is told %v", why)
			}
			w := c.want
			if got.State != w.State || got.Delay != w.Delay || got.Excuse != w.Excuse || got.Errors != w.Errors || got.Losses != w.Losses || got.Reason != w.Reason {
				t.Errorf("got %+v\nwant %+v", got, w)
			}
		})
	}
}
