package dashboard

import (
	"context"
	"errors"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// pulse is how the ledger stands, for the strip of numbers on every page.
type pulse struct {
	queues  []sequencer.QueueStatus
	workers []sequencer.WorkerStatus
	pauses  []storage.Pause
	waits   int // approvals that nobody has given yet
	failed  int // failedMost + 1 for more
	missing bool
}

// failedMost is how many failed executions are counted. There is no counter of them, so
// each is looked at.
const failedMost = 500

func (s *server) pulse(ctx context.Context) (pulse, error) {
	return s.pulses.get(ctx, s.o.Refresh, func(ctx context.Context) (pulse, error) {
		var p pulse
		var err error
		if p.queues, err = s.seq.Queues(ctx); err != nil {
			return p, err
		}
		if p.workers, err = s.seq.Workers(ctx); err != nil {
			return p, err
		}
		if p.pauses, err = s.seq.Pauses(ctx); err != nil {
			return p, err
		}
		asked, err := s.seq.Approvals(ctx)
		if err != nil {
			return p, err
		}
		p.waits = len(asked)
		failed, err := s.seq.Store().Executions(ctx, storage.Filter{Kinds: worked, States: []storage.State{storage.Failed}, Limit: failedMost + 1})
		var schema *storage.SchemaError
		if errors.As(err, &schema) && schema.Missing() {
			p.missing, err = true, nil
		}
		p.failed = len(failed)
		return p, err
	})
}

// totals sums over queues.
func (p *pulse) totals() (sum storage.QueueState, oldest time.Duration) {
	for _, q := range p.queues {
		sum.Ready += q.Ready
		sum.Running += q.Running
		sum.Scheduled += q.Scheduled
		sum.Blocked += q.Blocked
		sum.Parked += q.Parked
		oldest = max(oldest, q.Age)
	}
	return sum, oldest
}

// strip is the row of numbers. A ledger that cannot be read shows none: the page below
// says why.
func (p *request) strip() node {
	now, err := p.pulse(p.ctx)
	if err != nil || now.missing {
		return live("strip")
	}
	sum, oldest := now.totals()
	serving := 0
	for _, w := range now.workers {
		if w.Serves() {
			serving++
		}
	}
	number := func(label, value, look string, to attr) node {
		return el("a", class("fact "+look), to, el("span", class("value"), text(value)), el("span", class("label"), text(label)))
	}
	failedLook, waitLook := "", ""
	if now.failed > 0 {
		failedLook = "bad"
	}
	if oldest > 5*time.Minute {
		waitLook = "warn"
	}
	age := wording.Roughly(oldest)
	if age == "" {
		age = "–"
	}
	return live("strip", el("section", class("strip"), attr{"aria-label", "The ledger now"},
		number("ready", grouped(sum.Ready), "", p.to("/executions", "state", "pending")),
		number("running", grouped(sum.Running), "", p.to("/executions", "state", "running")),
		number("later", grouped(sum.Scheduled), "", p.to("/executions", "state", "pending")),
		number("waiting", grouped(sum.Blocked+sum.Parked), "", p.to("/executions", "state", "pending")),
		number("failed", capped(now.failed, failedMost), failedLook, p.to("/failures")),
		number("oldest", age, waitLook, p.to("/queues")),
		number("workers", grouped(serving), "", p.to("/workers")),
	))
}
