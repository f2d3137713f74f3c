package sequencer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// arranged is a batch or chain as the store takes it.
type arranged struct {
	flows []storage.Flow // the outermost first
	rows  []storage.Execution
	edges []storage.Edge
}

// inherited is what a member has from the batch or chain it is in, where it says
// nothing itself. A flow's row keeps it, for members that are added later.
type inherited struct {
	Queue    string        `json:"queue,omitempty"`
	Tags     []string      `json:"tags,omitempty"`
	Priority int           `json:"priority,omitempty"`
	delay    time.Duration // of what starts at once
}

func (in inherited) dispatch(q *request) { q.flow = in }

// schedule makes it a DispatchOption; no schedule is ever given one.
func (inherited) schedule(*schedule) {}

// arranger turns drafts into flows, rows and edges. It is pure, but for what row
// does, and finds all that is wrong before anything is written.
type arranger struct {
	// row makes the row of an operation, with an id of its own.
	row        func(op Operation, method string, in inherited) (storage.Execution, error)
	connection string         // where all of it is written
	by         flowDispatcher // what made the outermost draft
	queue      string         // where a stand-in waits that no queue was said for
	actor      string
	build      int64

	template bool     // what is arranged now is stored for later
	adding   bool     // to a flow that is there: the store joins what is added to it
	path     []*draft // from the outermost to the one that is being arranged
	where    []string // the same for people, down to the member
	out      *arranged
	problems problemList
}

// arrange is the whole of a draft, or all that is wrong with it.
func (a *arranger) arrange(d *draft) (arranged, error) {
	a.out = &arranged{}
	a.flow(d, newRequest(nil), storage.ID{}, nil, inherited{})
	return *a.out, a.problems.err()
}

// add is what is to be added to a flow that exists, without edges to what is there or
// between the added ones.
func (a *arranger) add(kind storage.FlowKind, flow storage.ID, position int, ops []Operation, in inherited) (arranged, error) {
	a.out, a.adding = &arranged{}, true
	d := newDraft(a.by, kind, ops)
	a.enter(&d, d.String(), func() { a.members(&d, flow, position, nil, in) })
	return *a.out, a.problems.err()
}

// enter does something inside d, whatever it is called.
func (a *arranger) enter(d *draft, name string, do func()) {
	a.path, a.where = append(a.path, d), append(a.where, name)
	do()
	a.path, a.where = a.path[:len(a.path)-1], a.where[:len(a.where)-1]
}

func (a *arranger) problem(err error) {
	a.problems.add(fmt.Errorf("%s: %w", strings.Join(a.where, ": "), err))
}

// flow adds a draft, of which With said q. Its first members come after before, edges
// whose To is open.
func (a *arranger) flow(d *draft, q *request, parent storage.ID, before []storage.Edge, in inherited) {
	if i := slices.Index(a.path, d); i >= 0 {
		e := &CycleError{}
		for _, p := range slices.Concat(a.path[i:], []*draft{d}) {
			e.Path = append(e.Path, p.String())
		}
		a.problem(fmt.Errorf("%w: nothing can be inside itself: build another one for the inner place", e))
		return
	}
	a.enter(d, d.String(), func() {
		a.check(d, q)
		in = in.under(d, q)
		f := storage.Flow{
			ID: storage.NewID(), Kind: d.kind, Name: d.name, Method: string(d.kind), Policy: d.policy, Phase: storage.PhaseForward,
			State: storage.Running, Actor: a.actor, Build: a.build, Options: in.options(), Total: len(a.worthwhile(d.members)), ParentID: parent,
		}
		at := len(a.out.flows)
		a.out.flows = append(a.out.flows, f)
		a.members(d, f.ID, 0, before, in)
		in.delay = 0
		for _, role := range callbackRoles {
			if c := a.callbacks(role, d.callbacks[role], in); len(c.Executions) > 0 {
				f.Callbacks = append(f.Callbacks, c)
			}
		}
		a.out.flows[at] = f
	})
}

// under is what the members of d inherit.
func (in inherited) under(d *draft, q *request) inherited {
	in = inherited{
		Queue: firstOf(q.queue, d.queue, in.Queue), Tags: addTags(in.Tags, d.tags, q.tags), Priority: cmp.Or(q.priority, in.Priority),
		delay: cmp.Or(d.delay, in.delay),
	}
	if q.scheduled {
		in.delay = q.delay
		if !q.at.IsZero() {
			in.delay = max(time.Until(q.at), 0)
		}
	}
	return in
}

// options is in as a flow's row keeps it.
func (in inherited) options() []byte {
	if in.Queue == "" && len(in.Tags) == 0 && in.Priority == 0 {
		return nil
	}
	b, err := json.Marshal(in)
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	return b
}

// check notes what is wrong with d itself, and with what With said of it.
func (a *arranger) check(d *draft, q *request) {
	for _, err := range d.problems {
		a.problem(err)
	}
	if q.err != nil {
		a.problem(q.err)
	}
	if q.tries != nil || q.retryFor != nil {
		a.problem(errors.New("it has no attempts of its own: say Tries and RetryFor of its members"))
	}
	if d.kind == storage.FlowChain && len(a.worthwhile(d.members)) == 0 {
		a.problem(fmt.Errorf("%w: give it one, or leave it out", ErrEmptyChain))
	}
	if a.template && d.kind == storage.FlowBatch && len(d.members) == 0 && len(d.callbacks) > 0 {
		a.problem(errors.New("it is empty and part of a callback, so what it would call is due at once: give that in its place"))
	}
	if len(a.path) == 1 {
		return
	}
	if c := firstOf(q.connection, d.connection); c != "" && c != a.connection {
		a.problem(fmt.Errorf("it is to be on connection %s, and what it is in is on %s: one write reaches one connection, dispatch them apart",
			c, a.connection))
	}
	outer, outerTx := a.by.place()
	switch inner, innerTx := d.by.place(); {
	case inner != outer:
		a.problem(errors.New("it was made by another Dispatcher than what it is in: make both by the same"))
	case innerTx != nil && innerTx != outerTx:
		a.problem(errors.New("it was made in a transaction, and what it is in was not: make the outermost by In(tx)"))
	}
}

// members adds the members of d, from a position on.
func (a *arranger) members(d *draft, flow storage.ID, position int, before []storage.Edge, in inherited) {
	for i, op := range a.worthwhile(d.members) {
		noun := "member"
		if d.kind == storage.FlowChain {
			noun = "step"
		}
		a.each(noun, i, func() {
			row, ok := a.member(d, op, flow, position+i, before, in)
			if ok && d.kind == storage.FlowChain && (!a.adding || len(a.path) > 1) {
				// A step that is allowed to fail is only waited for.
				before, in.delay = []storage.Edge{{From: row.ID, Needs: !row.AllowedToFail}}, 0
			}
		})
	}
}

// worthwhile leaves out, in what is stored for later, batches that are empty: nothing
// would come of them.
func (a *arranger) worthwhile(ops []Operation) []Operation {
	if !a.template {
		return ops
	}
	return slices.DeleteFunc(slices.Clone(ops), func(op Operation) bool {
		d, _ := draftOf(op)
		return d != nil && d.kind == storage.FlowBatch && len(d.members) == 0 && len(d.callbacks) == 0 && len(d.problems) == 0
	})
}

func (a *arranger) each(noun string, i int, do func()) {
	a.where = append(a.where, fmt.Sprintf("%s %d", noun, i+1))
	do()
	a.where = a.where[:len(a.where)-1]
}

// member adds one member, or the row that stands for one which is a batch or chain.
func (a *arranger) member(d *draft, op Operation, flow storage.ID, position int, before []storage.Edge, in inherited) (storage.Execution, bool) {
	inner, opts := draftOf(op)
	q := newRequest(opts)
	var row storage.Execution
	switch {
	case inner == nil:
		var err error
		if row, err = a.operation(op, string(d.kind), in); err != nil {
			a.problem(err)
			return row, false
		}
	case d.policy == storage.PolicyCompensate:
		a.problem(fmt.Errorf("%s in a chain that rolls back: RollbackOnFailure undoes operations alone, give it those, or leave it out", inner))
		return row, false
	default:
		row = a.standIn(inner, q, storage.Nested, in)
	}
	row.FlowID, row.Position = flow, position
	if (row.UniqueKey != "" || elsewhere(&row)) && (d.kind == storage.FlowChain || len(before) > 0 || a.template || a.adding && a.path[0].kind == storage.FlowChain) {
		if err := keyLater(&row); err != nil {
			a.problem(err)
		}
	}
	a.put(&row, before)
	if inner != nil {
		a.flow(inner, q, row.ID, before, in)
	}
	return row, true
}

// put adds a row behind before.
func (a *arranger) put(row *storage.Execution, before []storage.Edge) {
	if row.Member == "" {
		row.Member = row.Name
	}
	a.out.rows = append(a.out.rows, *row)
	for _, e := range before {
		e.To = row.ID
		a.out.edges = append(a.out.edges, e)
	}
}

// standIn is the row that stands for a whole batch or chain, of which With said q.
func (a *arranger) standIn(d *draft, q *request, kind storage.Kind, in inherited) storage.Execution {
	in = in.under(d, q)
	return storage.Execution{
		ID: storage.NewID(), Name: firstOf(d.name, string(d.kind)), Kind: kind, Method: string(d.kind), Member: q.member, Actor: a.actor,
		Queue: firstOf(in.Queue, a.queue), Priority: cmp.Or(in.Priority, storage.PriorityDefault), Tags: in.Tags,
		OnLoss: storage.LossRetry, Policy: policy{StandsIn: true}.bytes(),
	}
}

// keyLater has a row take its unique key when it runs: until then others would have to
// do without it, and among them may be what the row waits for.
func keyLater(row *storage.Execution) error {
	key := row.UniqueKey
	if key == "" {
		row.UniqueFor = 0 // one that is held elsewhere is taken then too
		return nil
	}
	row.UniqueKey = ""
	var err error
	row.Policy, err = changePolicy(row.Policy, func(p *policy) { p.Key = key })
	return err
}

// callbacks is the template of a role: one after the other, however each ends (Q5.19).
func (a *arranger) callbacks(role storage.Role, ops []Operation, in inherited) storage.Callback {
	outer, within := a.out, a.template
	a.out, a.template = &arranged{}, true
	defer func() { a.out, a.template = outer, within }()
	var before []storage.Edge
	for i, op := range a.worthwhile(ops) {
		a.each(string(role)+" callback", i, func() {
			inner, opts := draftOf(op)
			q := newRequest(opts)
			var row storage.Execution
			if inner != nil {
				row = a.standIn(inner, q, storage.KindCallback, in)
			} else {
				var err error
				if row, err = a.operation(op, string(role), in); err != nil {
					a.problem(err)
					return
				}
			}
			row.Kind, row.Method, row.Position = storage.KindCallback, string(role), i
			row.AllowedToFail, row.Undoable = false, false
			if err := keyLater(&row); err != nil {
				a.problem(err)
			}
			a.put(&row, before)
			if inner != nil {
				a.flow(inner, q, row.ID, before, in)
			}
			before = []storage.Edge{{From: row.ID}}
		})
	}
	return storage.Callback{Role: role, Flows: a.out.flows, Executions: a.out.rows, Edges: a.out.edges}
}

// operation is the row of one. What is sealed in a template is bound to its id there,
// which the row gets another one in the place of.
func (a *arranger) operation(op Operation, method string, in inherited) (storage.Execution, error) {
	row, err := a.row(op, method, in)
	if _, _, sealed := sealedWith(row.Input); err == nil && sealed && a.template {
		row.Policy, err = changePolicy(row.Policy, func(p *policy) { p.SealedAs = row.ID })
	}
	return row, err
}

// readInherited is what a flow's row keeps for members that are added to it.
func readInherited(options []byte) (inherited, error) {
	var in inherited
	if len(options) == 0 {
		return in, nil
	}
	if err := json.Unmarshal(options, &in); err != nil {
		return in, fmt.Errorf("stored options of a flow: %w", err)
	}
	return in, nil
}

// callbackRoles in the order in which they are stored.
var callbackRoles = []storage.Role{storage.RoleProgress, storage.RoleCatch, storage.RoleThen, storage.RoleFinally}

// maxProblems is how many problems are told at a time: what is wrong with one member
// of ten thousand may be wrong with all.
const maxProblems = 10

type problemList struct {
	list []error
	more int
}

func (p *problemList) add(err error) {
	if len(p.list) == maxProblems {
		p.more++
		return
	}
	p.list = append(p.list, err)
}

func (p *problemList) err() error {
	if p.more > 0 {
		return errors.Join(append(p.list, fmt.Errorf("and %d more", p.more))...)
	}
	return errors.Join(p.list...)
}
