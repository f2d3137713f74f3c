package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/gosequencer/sequencer/storage"
)

// Approval is the question whether an execution may run, put to whom its operation names
// (see [NeedsApproval]).
//
// Whoever may write to the ledger can answer it, under any name: what is recorded is a
// claim. Config.MayApprove is where an application that knows its users decides.
type Approval struct {
	ID        string        `json:"id"` // "" = nobody has asked yet: an approval in advance
	Name      string        `json:"name"`
	By        string        `json:"by"`                   // who is asked: a person or a role
	Execution string        `json:"execution,omitempty"`  // what waits for it; "" = nothing at the moment
	AskedBy   string        `json:"asked_by,omitempty"`   // the actor of the run or dispatch
	Since     time.Time     `json:"since,omitzero"`       // when it was asked
	State     storage.State `json:"state"`                // pending, completed = approved, failed = rejected, cancelled = withdrawn
	Answer    string        `json:"answer,omitempty"`     // who answered what, and why
	Answered  time.Time     `json:"answered_at,omitzero"` //
}

// ErrNotApproved is matched by what stopped because nobody has approved it yet.
var ErrNotApproved = errors.New("not approved yet")

// ErrAnswered refuses an answer to an approval that has one.
var ErrAnswered = errors.New("is answered already")

// ApprovalError ends a run that has nothing left to do before somebody approves. It
// matches ErrNotApproved.
type ApprovalError struct{ Waiting []Approval }

func (e *ApprovalError) Error() string {
	parts := make([]string, len(e.Waiting))
	for i, a := range e.Waiting {
		parts[i] = fmt.Sprintf("%s waits for approval by %s", a.Name, a.By)
	}
	return strings.Join(parts, "; ")
}

// Is makes errors.Is(err, ErrNotApproved) true.
func (e *ApprovalError) Is(target error) bool { return target == ErrNotApproved }

// RejectedError is the failure of an execution that a person did not let run.
type RejectedError struct {
	Name   string
	By     string // who was asked
	Answer string // who rejected it, and why
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("%s needed approval by %s, and was %s", e.Name, e.By, e.Answer)
}

// maxApprover bounds the name of a person or role, in bytes.
const maxApprover = storage.MaxName

// checkApprover refuses what names nobody, or cannot be shown.
func checkApprover(by string) error {
	switch {
	case by == "":
		return errors.New("ApprovedBy names nobody: give a person or a role, or leave it out")
	case len(by) > maxApprover:
		return fmt.Errorf("ApprovedBy has %d bytes: a person or a role has at most %d", len(by), maxApprover)
	case by != strings.ToValidUTF8(by, "") || strings.ContainsFunc(by, unicode.IsControl):
		return fmt.Errorf("ApprovedBy is %q: use text that can be shown on a line", by)
	}
	return nil
}

// Approvals lists what waits for a person, the oldest first.
func (s *Sequencer) Approvals(ctx context.Context) ([]Approval, error) {
	rows, err := s.openQuestions(ctx, "")
	if err != nil {
		return nil, err
	}
	lone, err := s.whole(ctx, idsOf(rows, func(e storage.Execution) storage.ID { return e.Undoes }))
	if err != nil {
		return nil, err
	}
	waits := make(map[storage.ID]bool, len(lone))
	for i := range lone {
		waits[lone[i].ID] = !lone[i].State.Over()
	}
	list := make([]Approval, 0, len(rows))
	for i := range rows {
		row := &rows[i]
		a, err := approvalIn(row)
		switch {
		case err != nil:
			return nil, err
		case row.Undoes.IsZero():
			if err := s.addWaiting(ctx, &a, row); err != nil {
				return nil, err
			}
		case !waits[row.Undoes]: // nobody needs the answer, see withdrawApprovals
			continue
		default:
			a.Execution = row.Undoes.String()
		}
		list = append(list, a)
	}
	return list, nil
}

// Approve lets run what waits for an approval, named by the approval's id, by the
// execution's, or by the operation if just one of it waits. Of an operation with a timestamp
// that does not wait it is an approval in advance, which counts until the operation has
// ended once. Who approved, and reason, go into the ledger and the audit log.
//
// Config.MayApprove is asked first. One that is answered already is ErrAnswered.
func (s *Sequencer) Approve(ctx context.Context, nameOrID, reason string) (Approval, error) {
	return s.answer(ctx, storage.ActApprove, nameOrID, reason)
}

// Reject has what waits for an approval fail, with a *[RejectedError], as any other failure
// of it would: for good, without another attempt. A retry of it asks again. An operation with a timestamp
// that no run is waiting for fails the next one, unless somebody approves it before. See
// Approve.
func (s *Sequencer) Reject(ctx context.Context, nameOrID, reason string) (Approval, error) {
	if strings.TrimSpace(reason) == "" {
		return Approval{}, fmt.Errorf("rejecting %s: say why", nameOrID)
	}
	return s.answer(ctx, storage.ActReject, nameOrID, reason)
}

func (s *Sequencer) answer(ctx context.Context, action storage.Action, nameOrID, reason string) (Approval, error) {
	row, err := s.findQuestion(ctx, nameOrID)
	if errors.Is(err, errNoQuestion) && action == storage.ActApprove {
		row, err = s.inAdvance(ctx, nameOrID, err)
	}
	if err != nil {
		return Approval{}, err
	}
	if row.State.Over() {
		return Approval{}, answered(&row)
	}
	a, err := s.approvalOf(ctx, &row)
	if err == nil && a.Execution == "" && !row.Undoes.IsZero() {
		err = fmt.Errorf("the approval of %s (%s): what it was asked for is over", row.Name, row.ID)
	}
	if err == nil && s.cfg.MayApprove != nil {
		if err = s.cfg.MayApprove(ctx, s.cfg.Actor, a); err != nil {
			err = fmt.Errorf("%s may not answer for %s about %s: %w", s.cfg.Actor, a.By, a.Name, err)
		}
	}
	if err == nil && row.CreatedAt.IsZero() { // nobody has asked
		err = s.ask(ctx, row)
	}
	if err != nil {
		return a, err
	}
	after, err := s.store.Operate(ctx, storage.Order{Action: action, IDs: []storage.ID{row.ID}, Actor: s.cfg.Actor, Reason: reason})
	if _, late := errors.AsType[*storage.TransitionError](err); late {
		if now, readErr := s.row(ctx, row.ID); readErr == nil {
			return a, answered(&now)
		}
	}
	if err != nil {
		return a, fmt.Errorf("%s %s: %w", action, a.Name, err)
	}
	s.letGo(ctx, &after[0])
	return s.approvalOf(ctx, &after[0])
}

func answered(row *storage.Execution) error {
	text := row.Reason
	if row.State == storage.Cancelled {
		text = "withdrawn: " + orDefault(text, "what it was asked for is over")
	}
	return fmt.Errorf("the approval of %s (%s) %w: it was %s", row.Name, row.ID, ErrAnswered, text)
}

// errNoQuestion: nothing of that name waits for an approval.
var errNoQuestion = errors.New("nothing of it waits for an approval")

// findQuestion is the approval that a person names.
func (s *Sequencer) findQuestion(ctx context.Context, nameOrID string) (storage.Execution, error) {
	none := storage.Execution{}
	if id := strings.ToLower(nameOrID); len(id) >= 8 && isIDPrefix(id) {
		rows, err := s.store.Executions(ctx, storage.Filter{IDPrefix: id, Limit: 2})
		switch {
		case err != nil:
			return none, err
		case len(rows) > 1:
			return none, fmt.Errorf("id %s is not unique: give more of it", nameOrID)
		case len(rows) == 1 && rows[0].Kind == storage.KindApproval:
			return rows[0], nil
		case len(rows) == 1:
			asked, err := s.look(ctx, &rows[0], s.present(rows[0].Name))
			if err == nil && asked.State == "" {
				err = fmt.Errorf("%s (%s): %w", rows[0].Name, rows[0].ID, errNoQuestion)
			}
			return asked, err
		}
	}
	name := s.present(nameOrID)
	rows, err := s.openQuestions(ctx, name)
	switch {
	case err != nil:
		return none, err
	case len(rows) == 1:
		return rows[0], nil
	case len(rows) > 1:
		ids := make([]string, len(rows))
		for i := range rows {
			ids[i] = rows[i].ID.String()
		}
		return none, fmt.Errorf("%d executions of %s wait for an approval: give the id of one, %s", len(rows), name, few(ids))
	}
	return none, fmt.Errorf("%s: %w", name, errNoQuestion)
}

// inAdvance is the approval of an operation that nobody has asked for.
func (s *Sequencer) inAdvance(ctx context.Context, name string, missing error) (storage.Execution, error) {
	reg, ok := s.reg.lookup(name)
	if !ok || reg.version == 0 {
		return storage.Execution{}, missing
	}
	op, err := reg.fresh()
	if err != nil {
		return storage.Execution{}, err
	}
	by, err := reg.approvedBy(op)
	switch {
	case err != nil:
		return storage.Execution{}, err
	case by == "":
		return storage.Execution{}, fmt.Errorf("%s needs nobody's approval: it declares no ApprovedBy", reg.name)
	}
	found, err := s.look(ctx, toRun(reg.name, by), reg.name)
	if err != nil {
		return found, err
	}
	row := s.question(reg.name, by)
	switch found.State {
	case "":
		row.ID = found.ID
		return row, nil
	case storage.Failed: // between two runs a person may think better of it
		waits, err := s.waitingFor(ctx, &found)
		if err != nil || len(waits) > 0 {
			return found, err
		}
		all, err := s.questions(ctx, reg.name)
		row.ID = storage.ApprovalID(reg.name, len(all))
		return row, err
	default: // it may have been asked for meanwhile
		return found, nil
	}
}

// approvalTag is on every approval, so that those few are found among whatever waits.
const approvalTag = "sequencer:approval"

// question is the row of an approval, without an id.
func (s *Sequencer) question(name, by string) storage.Execution {
	return storage.Execution{
		Name: name, Kind: storage.KindApproval, Method: "approval", Actor: s.cfg.Actor, Queue: storage.ApprovalQueue, Tags: []string{approvalTag},
		Priority: storage.PriorityDefault, OnLoss: storage.LossRetry, Policy: policy{Approver: by}.bytes(), State: storage.Pending,
	}
}

// ask writes a question. Whoever asks the same at the same time finds it written. What is
// still open about the same to somebody else is withdrawn: his answer would not count.
func (s *Sequencer) ask(ctx context.Context, row storage.Execution) error {
	if _, err := s.store.Enqueue(ctx, storage.EnqueueRequest{Executions: []storage.Execution{row}}); err != nil {
		return fmt.Errorf("asking for the approval of %s: %w", row.Name, err)
	}
	if !row.Undoes.IsZero() { // what declares it is in its own row, and stays
		return nil
	}
	p, err := readPolicy(row.Policy)
	if err != nil {
		return err
	}
	open, err := s.openQuestions(ctx, row.Name)
	if err != nil {
		return err
	}
	open = slices.DeleteFunc(open, func(r storage.Execution) bool { return !r.Undoes.IsZero() || asksOf(&r, p.Approver) })
	return s.withdraw(ctx, open, p.Approver+" has to approve it now")
}

// withdraw takes questions back that nobody has answered. One that is answered meanwhile
// stays as it is.
func (s *Sequencer) withdraw(ctx context.Context, open []storage.Execution, reason string) error {
	for i := range open {
		_, err := s.store.Operate(ctx, storage.Order{
			Action: storage.ActCancel, IDs: []storage.ID{open[i].ID}, Actor: s.cfg.Actor, Reason: reason,
		})
		if _, answered := errors.AsType[*storage.TransitionError](err); err != nil && !answered {
			return fmt.Errorf("withdrawing approval %s: %w", open[i].ID, err)
		}
	}
	return nil
}

// openQuestions are those that nobody has answered, of an operation or of all, the oldest
// first. A database without a ledger has none.
func (s *Sequencer) openQuestions(ctx context.Context, name string) ([]storage.Execution, error) {
	const most = 10_000
	rows, err := s.store.Executions(ctx, storage.Filter{
		Name: name, Tag: approvalTag, Kinds: []storage.Kind{storage.KindApproval}, States: []storage.State{storage.Pending},
		Oldest: true, Limit: most,
	})
	if err != nil && !noLedger(err) {
		return nil, fmt.Errorf("reading approvals: %w", err)
	}
	return rows, nil
}

// approvalOf is what an approval's row says, and what waits for it.
func (s *Sequencer) approvalOf(ctx context.Context, row *storage.Execution) (Approval, error) {
	a, err := approvalIn(row)
	if err == nil && a.ID != "" {
		err = s.addWaiting(ctx, &a, row)
	}
	return a, err
}

func (s *Sequencer) addWaiting(ctx context.Context, a *Approval, row *storage.Execution) error {
	waits, err := s.waitingFor(ctx, row)
	if len(waits) > 0 {
		a.Execution = waits[0].ID.String()
	}
	return err
}

// approvalIn is what an approval's row says.
func approvalIn(row *storage.Execution) (Approval, error) {
	p, err := readPolicy(row.Policy)
	if err != nil {
		return Approval{}, err
	}
	a := Approval{
		ID: row.ID.String(), Name: row.Name, By: p.Approver, AskedBy: row.Actor, Since: row.CreatedAt, State: row.State,
		Answer: row.Reason, Answered: row.FinishedAt,
	}
	if row.CreatedAt.IsZero() { // not asked yet
		a.ID, a.AskedBy = "", ""
	}
	return a, nil
}

// waitingFor is the execution that an approval would let go, if it is pending.
func (s *Sequencer) waitingFor(ctx context.Context, row *storage.Execution) ([]storage.Execution, error) {
	f := storage.Filter{IDs: []storage.ID{row.Undoes}}
	if row.Undoes.IsZero() {
		f = storage.Filter{Name: row.Name, Kinds: []storage.Kind{storage.Ordered}}
	}
	f.States, f.Limit = []storage.State{storage.Pending, storage.Running}, 1
	return s.store.Executions(ctx, f)
}

// letGo has what waits for an answer look for it at once. It would by itself, later.
func (s *Sequencer) letGo(ctx context.Context, row *storage.Execution) {
	waits, err := s.waitingFor(ctx, row)
	if err == nil && len(waits) > 0 && waits[0].State == storage.Pending && awaits(&waits[0]) {
		_, err = s.store.Operate(ctx, storage.Order{
			Action: storage.ActReschedule, IDs: []storage.ID{waits[0].ID}, Actor: s.cfg.Actor, Reason: "its approval " + row.ID.String() + " is answered",
		})
	}
	if _, moved := errors.AsType[*storage.TransitionError](err); err != nil && !moved { // it looks just now
		s.cfg.Logger.WarnContext(ctx, "what waits for an approval was not told of the answer; it looks by itself", keyOperation, row.Name, keyError, err)
	}
}
