package storage

import "slices"

// State is where an execution or a flow stands. One set serves code, SQL, JSON
// and the command. Scheduled, retrying and blocked are views of Pending (due
// later, attempts > 0, waits for others of its flow), not states.
type State string

const (
	Pending     State = "pending"
	Running     State = "running"
	Completed   State = "completed"
	Failed      State = "failed"
	Skipped     State = "skipped"
	Cancelled   State = "cancelled"   // never started, will not
	Interrupted State = "interrupted" // its worker vanished and repeating is not safe: a person decides
	RolledBack  State = "rolled_back"
)

// Transitions is the one table of legal moves (S5.5, Q0.8 and their union in the
// design). Every store and every test reads it; ARCHITECTURE.md draws it. Rows that have
// no handler, nested flows and approvals, are never running: they come from pending to
// the end that their flow, or a person, gives them.
var Transitions = map[State][]State{
	Pending:     {Running, Skipped, Cancelled, Failed},
	Running:     {Pending, Completed, Failed, Skipped, Cancelled, Interrupted},
	Completed:   {RolledBack},
	Failed:      {Pending, RolledBack},
	Interrupted: {Pending, Failed, Completed},
	Cancelled:   {Pending},
	Skipped:     nil,
	RolledBack:  nil,
}

// States lists all states in the order people read them.
var States = []State{Pending, Running, Completed, Failed, Skipped, Cancelled, Interrupted, RolledBack}

// CanBecome reports whether the move from s to next is legal.
func (s State) CanBecome(next State) bool { return slices.Contains(Transitions[s], next) }

// Over reports whether an execution in s will not be delivered again by itself.
func (s State) Over() bool { return s != Pending && s != Running }

// Successful reports a good end: completed, or skipped (S5.1).
func (s State) Successful() bool { return s == Completed || s == Skipped }

// Known reports whether s is one of [States].
func (s State) Known() bool { return slices.Contains(States, s) }
