package storage

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// PauseKind says what a pause stops.
type PauseKind string

const (
	PauseQueue     PauseKind = "queue"     // claims from a queue
	PauseOperation PauseKind = "operation" // claims of an operation's executions
	PauseSchedule  PauseKind = "schedule"  // the ticks of a schedule
)

// Pause stops claims from a queue, of an operation, or the ticks of a schedule,
// until it is lifted. What runs goes on; delays and deadlines keep running
// (Q10.18). The name need not exist yet.
//
// A paused queue gives nothing to a claim and does not count for NextDue. Of a
// paused operation parked rows are not offered; its other rows are, because a
// claim does not filter: whoever gets one parks it (see Claimed.PausedNames). A
// tick of a paused schedule is refused (see EnqueueRequest.Tick). Private queues
// cannot be paused, and a claim from nothing but private queues asks for no pause.
type Pause struct {
	Kind   PauseKind `json:"kind"`
	Name   string    `json:"name"`
	At     time.Time `json:"at"`
	Actor  string    `json:"actor,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// Target is what audit entries call it, as in "queue high".
func (p Pause) Target() string { return string(p.Kind) + " " + p.Name }

// Validate returns an error unless p names something that can be paused.
func (p Pause) Validate() error {
	switch p.Kind {
	case PauseQueue, PauseOperation, PauseSchedule:
	default:
		return fmt.Errorf("a pause of %q: it can be of a queue, an operation or a schedule", p.Kind)
	}
	if p.Name == "" {
		return fmt.Errorf("a pause needs the name of the %s", p.Kind)
	}
	if p.Kind == PauseQueue && strings.HasPrefix(p.Name, PrivateQueue) {
		return errors.New("queue " + p.Name + " is private: it cannot be paused")
	}
	return nil
}

// AsksPauses reports whether a claim from these queues has to look at pauses: one
// of them is not private.
func AsksPauses(queues []string) bool {
	for _, q := range queues {
		if !strings.HasPrefix(q, PrivateQueue) {
			return true
		}
	}
	return false
}
