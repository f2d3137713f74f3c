package sequencer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/internal/process"
	"github.com/gosequencer/sequencer/storage"
)

// ReasonKind says why an execution is not running, or that it is.
type ReasonKind string

const (
	ReasonOver            ReasonKind = "over"             // it has ended
	ReasonDuplicate       ReasonKind = "duplicate"        // it has ended, and another one holds its unique key
	ReasonRunning         ReasonKind = "running"          // a worker has it
	ReasonLost            ReasonKind = "lost"             // a worker had it, and is gone
	ReasonWaits           ReasonKind = "waits"            // for others of its flow
	ReasonScheduled       ReasonKind = "scheduled"        // due later
	ReasonRetrying        ReasonKind = "retrying"         // it failed, and is due again later
	ReasonApproval        ReasonKind = "approval"         // a person has to approve it
	ReasonHeld            ReasonKind = "held"             // middleware turned it away: a limit, a key that another has, an open circuit
	ReasonQueuePaused     ReasonKind = "queue_paused"     // nobody may claim from its queue
	ReasonOperationPaused ReasonKind = "operation_paused" // nobody may claim its operation
	ReasonNoWorker        ReasonKind = "no_worker"        // nobody serves its queue
	ReasonUnknown         ReasonKind = "unknown"          // no worker of its queue has its operation registered
	ReasonBuild           ReasonKind = "build"            // every worker of its queue that knows it is too old
	ReasonOwner           ReasonKind = "owner"            // only the process that began it works on it
	ReasonBehind          ReasonKind = "behind"           // others of its queue come first
	ReasonNext            ReasonKind = "next"             // nothing keeps it
)

// Reason is one answer to why.
type Reason struct {
	Kind   ReasonKind      `json:"kind"`
	Text   string          `json:"text"`              // for people
	At     time.Time       `json:"at,omitzero"`       // when it is due, began, ended, or was paused
	Worker *storage.Worker `json:"holder,omitempty"`  // who has it, or had it last
	Others []storage.ID    `json:"others,omitempty"`  // executions it waits for, or that hold its key
	Count  int64           `json:"ahead,omitempty"`   // how many come first, at most
	Pause  *storage.Pause  `json:"pause,omitempty"`   // that keeps it
	Build  int64           `json:"highest,omitempty"` // of the workers that know it
	// Approval is the open question that it waits for; of an approval, itself.
	Approval *Approval `json:"approval,omitempty"`
}

// Answer is why an execution is where it is: every reason that holds, the gravest
// first.
type Answer struct {
	Execution storage.Execution `json:"execution"`
	Reasons   []Reason          `json:"reasons"`
}

// Why tells what keeps an execution from running, from what the ledger says at this
// moment. It is named by id, or by operation: its newest execution that is not over,
// else its newest. Nothing is written.
func (s *Sequencer) Why(ctx context.Context, nameOrID string) (*Answer, error) {
	row, err := s.find(ctx, nameOrID)
	if err == nil {
		row, err = s.newestIn(ctx, row, nameOrID, storage.Pending, storage.Running)
	}
	if err != nil {
		return nil, err
	}
	a := &Answer{Execution: row}
	switch {
	case row.State.Over():
		err = s.whyOver(ctx, a)
	case row.State == storage.Running:
		err = s.whyRunning(ctx, a)
	case row.Kind == storage.KindApproval:
		_, err = s.whyApproval(ctx, a)
	case ownLine(&row):
		err = s.whyOwn(ctx, a)
	default:
		err = s.whyWaiting(ctx, a)
	}
	return a, err
}

func (a *Answer) add(r Reason) { a.Reasons = append(a.Reasons, r) }

func (s *Sequencer) whyOver(ctx context.Context, a *Answer) error {
	row := &a.Execution
	text := "it " + ended(row.State)
	by, err := s.cancelledBy(ctx, row)
	if err != nil {
		return err
	}
	switch {
	case by != nil:
		text += " by " + by.Actor
		if by.Reason != "" {
			text += ": " + by.Reason
		}
	case row.State == storage.Interrupted:
		text += ": its process died, and a person must decide, with retry or resolve"
	case row.State == storage.Failed && row.LastError != "":
		text += ": " + row.LastError
	case row.Reason != "":
		text += ": " + row.Reason
	}
	over := Reason{Kind: ReasonOver, Text: text, At: row.FinishedAt}
	if row.Kind == storage.KindApproval {
		own, err := s.approvalOf(ctx, row)
		if err != nil {
			return err
		}
		over.Approval = &own
	}
	a.add(over)
	if row.State == storage.Cancelled && row.Kind == storage.Ordered { // its run did not wait any longer
		if _, err := s.whyApproval(ctx, a); err != nil {
			return err
		}
	}
	if row.UniqueKey == "" || !row.State.CanBecome(storage.Pending) {
		return nil
	}
	rows, err := s.store.Executions(ctx, storage.Filter{
		UniqueKey: row.UniqueKey, States: []storage.State{storage.Pending, storage.Running}, Limit: 1,
	})
	if err == nil && len(rows) > 0 {
		a.add(Reason{
			Kind: ReasonDuplicate, Text: fmt.Sprintf("execution %s holds its unique key: until that one is over it cannot be retried", rows[0].ID),
			Others: []storage.ID{rows[0].ID},
		})
	}
	return err
}

// cancelledBy is the order that withdrew an execution by its id, nil if nobody did.
func (s *Sequencer) cancelledBy(ctx context.Context, row *storage.Execution) (*storage.AuditEntry, error) {
	if row.State != storage.Cancelled {
		return nil, nil //nolint:nilnil // nobody is no error
	}
	entries, err := s.store.Audit(ctx, storage.AuditFilter{Target: row.ID.String()})
	if err != nil {
		return nil, fmt.Errorf("reading who cancelled %s: %w", row.Name, err)
	}
	for _, e := range entries { // the newest first
		if e.Action == string(storage.ActCancel) {
			return &e, nil
		}
	}
	return nil, nil //nolint:nilnil // nobody is no error
}

func ended(state storage.State) string {
	switch state {
	case storage.Completed, storage.Failed:
		return string(state)
	case storage.Pending, storage.Running, storage.Skipped, storage.Cancelled, storage.Interrupted, storage.RolledBack:
	}
	return "was " + strings.ReplaceAll(string(state), "_", " ")
}

func (s *Sequencer) whyRunning(ctx context.Context, a *Answer) error {
	row := &a.Execution
	w, err := s.workerOf(ctx, row.WorkerID)
	if err != nil {
		return err
	}
	r := Reason{Kind: ReasonRunning, At: row.StartedAt, Worker: w}
	switch {
	case w == nil:
		r.Text = "it runs on a worker that the ledger does not know any more"
	case goneFrom(process.Self(), w):
		r.Kind, r.Text = ReasonLost, fmt.Sprintf("it ran on %s, which is gone: the next worker or run takes it over", describe(w))
	default:
		r.Text = fmt.Sprintf("it runs on %s: attempt %d", describe(w), row.Attempts())
		switch left := row.Left(time.Now()); {
		case left > 0:
			r.Text += fmt.Sprintf(", %d of %d done, about %s left", row.Done, row.Total, left.Round(time.Second))
		case row.Total > 0:
			r.Text += fmt.Sprintf(", %d of %d done", row.Done, row.Total)
		case row.Done > 0:
			r.Text += fmt.Sprintf(", %d done", row.Done)
		}
		if !w.LeaseUntil.IsZero() {
			r.Text += fmt.Sprintf(", lease until %s", clockTime(w.LeaseUntil))
		}
	}
	a.add(r)
	return nil
}

// workerOf is the worker with an id, also if it has left; nil if there is none.
func (s *Sequencer) workerOf(ctx context.Context, id storage.ID) (*storage.Worker, error) {
	workers, err := s.store.Workers(ctx, id)
	for i := range workers {
		if workers[i].ID == id {
			return &workers[i], err
		}
	}
	return nil, err
}

// whyOwn is about what one process alone serves: the tasks of a run, a call.
func (s *Sequencer) whyOwn(ctx context.Context, a *Answer) error {
	if err := s.whyBlocked(ctx, a); err != nil {
		return err
	}
	if asked, err := s.whyApproval(ctx, a); err != nil {
		return err
	} else if !asked {
		a.whyLater()
	}
	row := &a.Execution
	what := "it belongs to a call"
	owner := row.WorkerID
	if !row.FlowID.IsZero() {
		what = "it is part of run " + row.FlowID.String()
		if f, err := s.flow(ctx, row.FlowID); err == nil && !f.WorkerID.IsZero() {
			owner = f.WorkerID
		}
	}
	w, err := s.workerOf(ctx, owner)
	if err != nil {
		return err
	}
	r := Reason{Kind: ReasonOwner, Worker: w, Text: what}
	switch {
	case w == nil || goneFrom(process.Self(), w):
		r.Kind, r.Text = ReasonLost, what+", whose process is gone: the next run settles it"
	default:
		r.Text += ", and has its turn in " + describe(w)
	}
	a.add(r)
	return nil
}

// whyBlocked names what it waits for in its flow.
func (s *Sequencer) whyBlocked(ctx context.Context, a *Answer) error {
	row := &a.Execution
	if row.Waits == 0 {
		return nil
	}
	edges, err := s.store.Edges(ctx, row.FlowID)
	if err != nil {
		return fmt.Errorf("reading what %s waits for: %w", row.Name, err)
	}
	var ids []storage.ID
	for _, e := range edges {
		if e.To == row.ID {
			ids = append(ids, e.From)
		}
	}
	if len(ids) == 0 {
		a.add(Reason{Kind: ReasonWaits, Text: fmt.Sprintf("it waits for %d others of its flow", row.Waits)})
		return nil
	}
	const most = 10_000
	open, err := s.store.Executions(ctx, storage.Filter{
		IDs: ids[:min(len(ids), most)], States: []storage.State{storage.Pending, storage.Running}, Oldest: true, Limit: most,
	})
	if err != nil {
		return fmt.Errorf("reading what %s waits for: %w", row.Name, err)
	}
	r := Reason{Kind: ReasonWaits, Count: int64(row.Waits)}
	var names []string
	for _, e := range open {
		r.Others = append(r.Others, e.ID)
		names = append(names, fmt.Sprintf("%s (%s)", e.Name, e.State))
	}
	r.Text = "it waits for " + few(names)
	a.add(r)
	return nil
}

// few lists the first of many.
func few(names []string) string {
	const shown = 5
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}

// whyApproval tells whose approval it waits for, and whether it waits for one.
func (s *Sequencer) whyApproval(ctx context.Context, a *Answer) (bool, error) {
	row := &a.Execution
	if !row.State.Over() && !awaits(row) && row.Kind != storage.KindApproval {
		return false, nil
	}
	asked, err := *row, error(nil)
	if row.Kind != storage.KindApproval {
		asked, err = s.look(ctx, row, s.present(row.Name))
	}
	if err != nil || asked.State != storage.Pending {
		return false, err
	}
	open, err := s.approvalOf(ctx, &asked)
	if err != nil {
		return false, err
	}
	a.add(Reason{Kind: ReasonApproval, At: open.Since, Approval: &open, Text: fmt.Sprintf(
		"it waits for approval by %s since %s, asked for by %s: approve or reject %s", open.By, clockTime(open.Since), open.AskedBy, open.ID)})
	return true, nil
}

// whyHeld tells what middleware turned its last delivery away for.
func (a *Answer) whyHeld() {
	if row := &a.Execution; row.Reason != "" {
		a.add(Reason{Kind: ReasonHeld, At: row.DueAt, Text: "it was turned away, and is looked at again later: " + row.Reason})
	}
}

// whyLater tells when it is due.
func (a *Answer) whyLater() {
	row := &a.Execution
	left := time.Until(row.DueAt)
	if row.DueAt.IsZero() || left <= 0 {
		return
	}
	r := Reason{Kind: ReasonScheduled, At: row.DueAt, Text: fmt.Sprintf("it is scheduled for %s, in %s", clockTime(row.DueAt), left.Round(time.Second))}
	if n := row.Attempts(); n > 0 {
		r.Kind = ReasonRetrying
		r.Text = fmt.Sprintf("it is tried again at %s, in %s, after %d attempts", clockTime(row.DueAt), left.Round(time.Second), n)
		if n == 1 {
			r.Text = strings.TrimSuffix(r.Text, "s")
		}
		if row.LastError != "" {
			r.Text += ": " + row.LastError
		}
	}
	a.add(r)
}

func describe(w *storage.Worker) string {
	return fmt.Sprintf("worker %s (%s on %s, pid %d, by %s)", w.ID, w.Purpose, w.Hostname, w.PID, w.Actor)
}

func clockTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }
