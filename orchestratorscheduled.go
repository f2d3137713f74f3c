package sequencer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// QueueScheduled runs as [Sequential] does, and queues operations whose time
// ([Scheduled]) lies ahead, for workers, each for its time and into its own queue (S25).
// Every other orchestrator leaves them to a run for which the time has come. They are
// queued when the run has completed, each once: what is queued is in flight for the
// runs after it, which move it if its code names another time by then (S25.4). One whose
// dependencies are not done is left to a later run.
func QueueScheduled() Orchestrator { return scheduledRun{} }

// QueuesLater is what an [Orchestrator] may also be: one whose runs queue what is
// scheduled for later, as [QueueScheduled] says.
type QueuesLater interface{ QueuesLater() bool }

type scheduledRun struct{ sequential }

func (scheduledRun) Name() string      { return "scheduled" }
func (scheduledRun) QueuesLater() bool { return true }

// queueLater notes which operations of a plan are to be queued for later.
func (p *Plan) queueLater(o Orchestrator) {
	q, ok := o.(QueuesLater)
	if !ok || !q.QueuesLater() {
		p.waiting = nil
		return
	}
	for i := range p.Scheduled {
		p.Scheduled[i].Queued = p.Scheduled[i].ready
	}
}

// Queues is how many operations the run queues for later.
func (p *Plan) Queues() int {
	n := 0
	for _, l := range p.Scheduled {
		if l.Queued {
			n++
		}
	}
	return n
}

// operations lists what a run executes or queues.
func (p *Plan) operations() []string {
	var names []string
	for _, t := range p.Tasks {
		if t.Kind == storage.Ordered {
			names = append(names, t.Name)
		}
	}
	for _, l := range p.Scheduled {
		if l.Queued {
			names = append(names, l.Name)
		}
	}
	return names
}

// nothing reports a plan of which nothing would come: nothing is run and nothing queued.
func (p *Plan) nothing() bool { return p.Empty() && p.Queues() == 0 }

// moveLater moves what is queued for later, and not begun, to the time that its code
// names now, if that is not the one it named then: what a person has moved stays where it
// is. The run lock is held.
func (s *Sequencer) moveLater(ctx context.Context, plan *Plan) error {
	rows, err := s.whole(ctx, idsOf(plan.waiting, func(l Later) storage.ID { return l.id }))
	if err != nil {
		return err
	}
	now := map[storage.ID]time.Time{}
	for _, l := range plan.waiting {
		now[l.id] = l.At
	}
	for _, row := range rows {
		at := now[row.ID]
		p, err := readPolicy(row.Policy)
		if err != nil {
			return fmt.Errorf("%s: %w", row.Name, err)
		}
		if p.Named.IsZero() || p.Named.Equal(at) || row.State != storage.Pending || row.Attempts() > 0 || row.DueAt.Sub(at).Abs() < sameTime {
			continue
		}
		_, err = s.store.Operate(ctx, storage.Order{
			Action: storage.ActReschedule, IDs: []storage.ID{row.ID}, Delay: time.Until(at), Actor: s.cfg.Actor, Reason: "its code names another time",
		})
		var begun *storage.TransitionError
		switch {
		case errors.As(err, &begun): // at the old time, just now
		case err != nil:
			return fmt.Errorf("moving %s to another time: %w", row.Name, err)
		default:
			s.emit(ctx, Event{
				Kind: EventWarning, Method: plan.Method, ID: row.ID.String(), Name: row.Name, Operation: row.Kind,
				Reason: "was queued for " + row.DueAt.UTC().Format(time.DateTime) + " and is moved to " + at.Format(time.DateTime),
			})
		}
	}
	return nil
}

// sameTime is how far two instants may be apart that two machines take for one.
const sameTime = 10 * time.Second

// enqueueLater queues what a plan has for later, for workers, and reports it. The run
// lock is held.
func (s *Sequencer) enqueueLater(ctx context.Context, plan *Plan, report *Report) error {
	var rows []storage.Execution
	for _, l := range plan.Scheduled {
		if !l.Queued {
			continue
		}
		row, _, err := s.execution(ctx, With(Named(l.Name, nil), At(l.At)), plan.Method)
		if err == nil {
			row.Policy, err = changePolicy(row.Policy, func(p *policy) { p.Named = l.At })
		}
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil
	}
	done, err := s.store.Enqueue(ctx, storage.EnqueueRequest{Executions: rows})
	if err != nil {
		return fmt.Errorf("queueing what is scheduled for later: %w", err)
	}
	for i, r := range s.dispatched(ctx, rows, done.Receipts) {
		if !r.Duplicate { // else somebody else has just queued it
			report.Queued = append(report.Queued, rows[i].Name)
		}
	}
	return nil
}
