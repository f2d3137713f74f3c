package sequencer

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/internal/engine"
	"github.com/gosequencer/sequencer/storage"
)

// An execution that needs an approval asks for it when its turn comes, as it would ask a
// limit for room: the delivery that finds no answer puts it back, at no cost, to look again
// later (ADR 27). The approval is a row of its own, which a person ends. Of an operation
// with a timestamp it belongs to the operation, so that it outlives the run that asked; of
// any other to the one execution.

// approvalLook is how often what waits for an approval looks for the answer, if nobody
// tells it.
const approvalLook = 10 * time.Second

// approverMark tells stored policies that name an approver without reading them.
var approverMark = []byte(`"approver":`)

// approvalWaits begins the reason with which an execution waits for an approval.
const approvalWaits = "waits for approval by "

// awaits reports whether the last delivery of a pending execution found no answer.
func awaits(row *storage.Execution) bool { return strings.HasPrefix(row.Reason, approvalWaits) }

// gate reports whether the attempt may go on; otherwise the verdict is that it waits, or
// was rejected. What undoes an execution, or is called behind it, is not asked about.
func (a *Attempt) gate(ctx context.Context) (engine.Verdict, bool) {
	e := a.exec
	if !bytes.Contains(e.Policy, approverMark) || e.Kind != storage.Ordered && e.Kind != storage.Unlisted && e.Kind != storage.KindCallback {
		return engine.Verdict{}, true
	}
	p, err := readPolicy(e.Policy)
	reg, known := a.seq.reg.lookup(e.Name)
	if err != nil || !known { // others say so
		return engine.Verdict{}, true
	}
	if a.reg = reg; a.elsewhere(ctx) { // it will be skipped
		return engine.Verdict{}, true
	}
	answer, err := a.seq.look(ctx, e, reg.name)
	switch {
	case err != nil:
		end := ending{exec: e, policy: p, err: Deferral(approvalLook, fmt.Sprintf("its approval could not be read: %v", err)), left: time.Until(e.DeadlineAt)}
		if ctx.Err() != nil {
			end.cause = context.Cause(ctx)
		}
		o, why := a.decide(ctx, end)
		return a.verdict(ctx, o, why, nil), false
	case answer.State == storage.Completed:
		return engine.Verdict{}, true
	case answer.State == storage.Failed:
		o, why := a.decide(ctx, ending{exec: e, policy: p, rejected: &RejectedError{Name: a.Name, By: p.Approver, Answer: answer.Reason}})
		return a.verdict(ctx, o, why, nil), false
	case p.NoWait:
		o, why := a.decide(ctx, ending{exec: e, policy: p, err: Deferral(approvalLook, approvalWaits+p.Approver), left: approvalLook})
		return a.verdict(ctx, o, why, nil), false
	}
	return a.await(ctx, reg.name, p.Approver, &answer), false
}

// elsewhere reports whether the execution is certainly not for this environment, so that
// nothing of it will run.
func (a *Attempt) elsewhere(ctx context.Context) bool {
	if err := a.decode(ctx); err != nil {
		return false
	}
	list, declared, err := a.reg.environments(a.Operation)
	return err == nil && declared && !slices.Contains(list, a.seq.cfg.Environment)
}

// await puts the execution back until there is an answer, and asks if nobody has.
func (a *Attempt) await(ctx context.Context, name, by string, asked *storage.Execution) engine.Verdict {
	e := a.exec
	reason := approvalWaits + by + " (" + asked.ID.String() + ")"
	fresh := asked.State == ""
	if fresh {
		if err := a.ask(ctx, name, by, asked.ID); err != nil {
			reason, fresh = approvalWaits+by+"; it could not be asked for: "+err.Error(), false
		}
	}
	o := storage.Outcome{ // its deadline begins when it may run
		ID: e.ID, Of: e, Delivery: e.Delivery, State: storage.Pending, Delay: approvalLook, Excuse: true, Rewind: !e.DeadlineAt.IsZero(),
		Errors: e.Errors, Losses: e.Losses, Reason: reason,
	}
	tells := a.session.patience.first(e.ID) || fresh
	v := a.verdict(ctx, o, nil, nil)
	tell := v.After
	v.After = func(became *storage.Outcome) {
		switch {
		case became == nil || became.State.Over(): // fenced, or cancelled meanwhile
			tell(became)
		case tells:
			a.seq.emit(ctx, a.event(EventApprovalNeeded, func(ev *Event) { ev.State, ev.Reason = storage.Pending, reason }))
		}
	}
	return v
}

// ask puts the question, in the name of whoever dispatched the execution, which a claim
// does not tell.
func (a *Attempt) ask(ctx context.Context, name, by string, id storage.ID) error {
	whole, err := a.seq.row(ctx, a.exec.ID)
	if err != nil {
		return err
	}
	row := a.seq.question(name, by)
	row.ID, row.Actor = id, whole.Actor
	if whole.Kind != storage.Ordered {
		row.Undoes = whole.ID
	}
	return a.seq.ask(ctx, row)
}

// permitted asks for the approval that a deploy task would wait for if it were tried again.
// Whoever holds the run lock must not wait for a person, so it is an *ApprovalError then,
// and the task stays as it is.
func (s *Sequencer) permitted(ctx context.Context, row *storage.Execution) error {
	if row.Kind != storage.Ordered || !bytes.Contains(row.Policy, approverMark) {
		return nil
	}
	reg, known := s.reg.lookup(row.Name)
	if !known {
		return notFound(s.reg, row.Name)
	}
	op, err := reg.fresh()
	if err != nil {
		return err
	}
	list, declared, err := reg.environments(op)
	if err != nil || declared && !slices.Contains(list, s.cfg.Environment) { // it will be skipped
		return err
	}
	p, err := readPolicy(row.Policy)
	if err != nil {
		return err
	}
	asked, err := s.look(ctx, row, reg.name)
	switch {
	case err != nil:
		return err
	case asked.State != "" && asked.State.Over(): // a rejection that it has not failed of, it fails of now
		return nil
	case asked.State == "":
		question := s.question(reg.name, p.Approver)
		question.ID = asked.ID
		if err := s.ask(ctx, question); err != nil {
			return err
		}
		if asked, err = s.row(ctx, question.ID); err != nil {
			return err
		}
		s.emit(ctx, Event{
			Kind: EventApprovalNeeded, Method: row.Method, ID: row.ID.String(), Name: row.Name, Operation: row.Kind, State: row.State,
			Tags: row.Tags, Reason: approvalWaits + p.Approver + " (" + asked.ID.String() + ")",
		})
	}
	open, err := s.approvalOf(ctx, &asked)
	if err != nil {
		return err
	}
	return &ApprovalError{Waiting: []Approval{open}}
}

// look finds the question that counts for an execution: approved, rejected, still open, or
// one to be asked, which has an id and no state. What somebody else was asked, before the
// operation declared another approver, does not count.
func (s *Sequencer) look(ctx context.Context, e *storage.Execution, name string) (storage.Execution, error) {
	asked, err := s.questions(ctx, subjectOf(e, name))
	if err != nil {
		return storage.Execution{}, err
	}
	next := storage.Execution{ID: storage.ApprovalID(subjectOf(e, name), len(asked))}
	p, err := readPolicy(e.Policy)
	if err != nil {
		return next, err
	}
	asked = slices.DeleteFunc(asked, func(r storage.Execution) bool { return r.State == storage.Cancelled || !asksOf(&r, p.Approver) })
	if len(asked) == 0 {
		return next, nil
	}
	newest := asked[len(asked)-1]
	var counts bool
	switch newest.State {
	case storage.Completed:
		counts, err = s.unspent(ctx, e, name, newest.FinishedAt)
	case storage.Failed:
		counts, err = s.unheeded(ctx, e, name, asked)
	default:
		counts = true
	}
	if err != nil || !counts {
		return next, err
	}
	return newest, nil
}

// asksOf reports whether a question is put to that person or role.
func asksOf(question *storage.Execution, by string) bool {
	p, err := readPolicy(question.Policy)
	return err == nil && p.Approver == by
}

// subjectOf is what the questions are about: an operation with a timestamp, whichever run
// asks, or the one execution.
func subjectOf(e *storage.Execution, name string) string {
	if e.Kind == storage.Ordered {
		return name
	}
	return e.ID.String()
}

// questions are all that were ever asked about a subject, in order. They are never
// deleted, so the first one that is not there ends them.
func (s *Sequencer) questions(ctx context.Context, subject string) ([]storage.Execution, error) {
	const some = 16
	var all []storage.Execution
	for {
		at := make(map[storage.ID]int, some)
		ids := make([]storage.ID, some)
		for i := range ids {
			ids[i] = storage.ApprovalID(subject, len(all)+i)
			at[ids[i]] = i
		}
		rows, err := s.store.Executions(ctx, storage.Filter{IDs: ids, Limit: some})
		if err != nil && !noLedger(err) {
			return nil, fmt.Errorf("reading approvals: %w", err)
		}
		slices.SortFunc(rows, func(a, b storage.Execution) int { return at[a.ID] - at[b.ID] })
		all = append(all, rows...)
		if len(rows) < some {
			return all, nil
		}
	}
}

// unspent reports whether an approval still counts. That of an operation with a timestamp
// does until the operation has ended once, whichever run asked; that of another execution
// is its own.
func (s *Sequencer) unspent(ctx context.Context, e *storage.Execution, name string, approved time.Time) (bool, error) {
	if e.Kind != storage.Ordered {
		return true, nil
	}
	last, err := s.lastEnd(ctx, name, e.ID)
	if err != nil || !approved.After(last) {
		return false, err
	}
	ended, err := s.endedSince(ctx, e, approved)
	return !ended, err
}

// endedSince reports whether an execution that is tried again by hand had ended after an
// instant. Its row does not say so any more, its log does: attempts are numbered anew by
// such a retry, so one that is not below the next number was made before it.
func (s *Sequencer) endedSince(ctx context.Context, e *storage.Execution, since time.Time) (bool, error) {
	if e.ID.IsZero() {
		return false, nil
	}
	next := e.Attempts()
	switch {
	case e.State.Over():
		next = 1
	case e.State == storage.Pending:
		next++
	}
	log, err := s.store.Attempts(ctx, e.ID)
	for i := range log {
		l := &log[i]
		if l.Delivery <= 0 || l.FinishedAt.Before(since) {
			continue
		}
		switch l.Outcome {
		case "conflict": // costs nothing, and is no end
		case "deadline", "released": // are always the end, and may have cost nothing
			return true, err
		default:
			if l.Number >= next {
				return true, err
			}
		}
	}
	return false, err
}

// outcomeRejected is how the attempt log calls the end of what a person rejected.
const outcomeRejected = "rejected"

// unheeded reports whether the last of the answers is a rejection that the execution has
// not failed of: each has failed it once, so one that a person tries again asks again.
// What was rejected before there was the execution concerns others; but if nothing of an
// operation with a timestamp has ended since, it was said between two runs, and fails the
// next one.
func (s *Sequencer) unheeded(ctx context.Context, e *storage.Execution, name string, asked []storage.Execution) (bool, error) {
	n, before := 0, time.Time{}
	for i := range asked {
		switch at := asked[i].FinishedAt; {
		case !at.Before(e.CreatedAt):
			if asked[i].State == storage.Failed {
				n++
			}
		case asked[i].State == storage.Failed:
			before = at
		default:
			before = time.Time{} // thought better of
		}
	}
	if e.Kind == storage.Ordered && !before.IsZero() {
		last, err := s.lastEnd(ctx, name, e.ID)
		if err != nil {
			return false, err
		}
		if before.After(last) {
			n++
		}
	}
	if n == 0 || e.ID.IsZero() {
		return n > 0, nil
	}
	log, err := s.store.Attempts(ctx, e.ID)
	for i := range log {
		if log[i].Outcome == outcomeRejected {
			n--
		}
	}
	return n > 0, err
}

// lastEnd is when an operation with a timestamp last ended, but for one execution; zero
// if it never did. What was cancelled, or skipped for now or for another environment, has
// not ended.
func (s *Sequencer) lastEnd(ctx context.Context, name string, but storage.ID) (time.Time, error) {
	const page = 500
	var last time.Time
	f := storage.Filter{
		Name: name, Kinds: []storage.Kind{storage.Ordered}, Limit: page,
		States: []storage.State{storage.Completed, storage.Failed, storage.Skipped, storage.Interrupted, storage.RolledBack},
	}
	for { // all of them: any number of skips for now may have come after it
		rows, err := s.store.Executions(ctx, f)
		if err != nil {
			return last, err
		}
		for i := range rows {
			if r := &rows[i]; r.ID != but && !r.ForNow && r.Environment == "" && r.FinishedAt.After(last) {
				last = r.FinishedAt
			}
		}
		if len(rows) < page {
			return last, nil
		}
		f.After = &storage.Cursor{At: rows[page-1].CreatedAt, ID: rows[page-1].ID}
	}
}

// toRun is what an operation with a timestamp would run as if it were to run now.
func toRun(name, by string) *storage.Execution {
	return &storage.Execution{Name: name, Kind: storage.Ordered, Policy: policy{Approver: by}.bytes(), CreatedAt: time.Now().Add(day)}
}

// approved reports whether an operation with a timestamp would find an approval if it were
// to run now.
func (s *Sequencer) approved(ctx context.Context, name, by string) (bool, error) {
	found, err := s.look(ctx, toRun(name, by), name)
	return err == nil && found.State == storage.Completed, err
}

// notice tells a plan which of its tasks are approved.
func (s *Sequencer) notice(ctx context.Context, p *Plan) error {
	for i := range p.Tasks {
		t := &p.Tasks[i]
		if t.ApprovedBy == "" {
			continue
		}
		var err error
		if t.Approved, err = s.approved(ctx, t.Name, t.ApprovedBy); err != nil {
			return err
		}
	}
	return nil
}

// unapproved are the tasks of a plan that wait for a person.
func (p *Plan) unapproved() []Approval {
	var waiting []Approval
	for i := range p.Tasks {
		if t := &p.Tasks[i]; t.ApprovedBy != "" && !t.Approved {
			waiting = append(waiting, Approval{Name: t.Name, By: t.ApprovedBy, State: storage.Pending})
		}
	}
	return waiting
}

// withdrawApprovals takes back what nobody needs an answer to any more: its execution is
// over without one.
func (s *Sequencer) withdrawApprovals(ctx context.Context) error {
	rows, err := s.openQuestions(ctx, "")
	if err != nil {
		return err
	}
	var done []storage.Execution
	for i := range rows {
		r := &rows[i]
		over := false
		if r.Undoes.IsZero() {
			ended, err := s.lastEnd(ctx, r.Name, storage.ID{})
			if err != nil {
				return err
			}
			over = ended.After(r.CreatedAt)
		} else {
			waits, err := s.waitingFor(ctx, r)
			if err != nil {
				return err
			}
			over = len(waits) == 0
		}
		if over {
			done = append(done, *r)
		}
	}
	return s.withdraw(ctx, done, "what it was asked for is over")
}
