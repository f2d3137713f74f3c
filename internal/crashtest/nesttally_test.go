//go:build linux

package crashtest_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

// nestTally is the outside truth about nests, and how the ledger compares with it.
type nestTally struct {
	*tally
	flows  []storage.Flow
	roots  []storage.Flow
	in     map[storage.ID][]*storage.Execution // by flow
	stands map[storage.ID]*storage.Flow        // by the row that stands for it
	span   map[storage.ID]span                 // of the lines of an execution
	starts map[storage.ID]int
	ends   map[storage.ID]int
	pids   map[storage.ID][]int // of its starts
}

// span is from the first line of the journal to the last one that concerns something.
type span struct{ first, last int }

func (s span) with(o span) span {
	if s.first == 0 {
		return o
	}
	return span{min(s.first, o.first), max(s.last, o.last)}
}

// tallyNests reads ledger and journal once everything is over, and reports what cannot
// be. gone says which processes were lost.
func tallyNests(t *testing.T, s shift, gone map[int]bool) *nestTally {
	t.Helper()
	c := &nestTally{
		tally: &tally{log: map[storage.ID][]storage.Attempt{}, paid: map[string]int{}}, in: map[storage.ID][]*storage.Execution{},
		stands: map[storage.ID]*storage.Flow{}, span: map[storage.ID]span{}, starts: map[storage.ID]int{}, ends: map[storage.ID]int{},
		pids: map[storage.ID][]int{},
	}
	c.readSpans(t, s.Journal)
	within(t, s.Place, func(l *ledger) {
		c.read(t, l)
		storagetest.Check(t, l.Store)
		var err error
		if c.flows, err = l.Flows(t.Context(), storage.FlowFilter{Limit: 10_000}); err != nil {
			t.Fatal(err)
		}
		for i := range c.rows {
			c.in[c.rows[i].FlowID] = append(c.in[c.rows[i].FlowID], &c.rows[i])
		}
		for i := range c.flows {
			f := &c.flows[i]
			if f.ParentID.IsZero() {
				c.roots = append(c.roots, *f)
			} else {
				c.stands[f.ParentID] = f
			}
		}
		for i := range c.rows {
			c.attempts(t, &c.rows[i], gone)
		}
		for i := range c.flows {
			c.callbacks(t, &c.flows[i])
			c.added(t, &c.flows[i])
			c.order(t, &c.flows[i])
		}
	})
	return c
}

// readSpans reads the journal in its order; lines count from 1.
func (c *nestTally) readSpans(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	at := 0
	for line := range strings.Lines(string(text)) {
		var what, name string
		var number, pid int
		at++
		if n, err := fmt.Sscan(line, &what, &name, &number, &pid); n < 4 {
			t.Fatalf("journal: %q: %v", line, err)
		}
		id, err := storage.ParseID(name)
		if err != nil {
			t.Fatal(err)
		}
		c.span[id] = c.span[id].with(span{at, at})
		if what == started {
			c.starts[id]++
			c.pids[id] = append(c.pids[id], pid)
		} else {
			c.ends[id]++
		}
	}
}

// attempts checks that each start of a handler but the decisive one is explained: by a
// worker that was lost, or an error that was recorded.
func (c *nestTally) attempts(t *testing.T, e *storage.Execution, gone map[int]bool) {
	t.Helper()
	if !e.State.Over() {
		t.Errorf("%s %s is %s", e.Member, e.ID, e.State)
	}
	if c.stands[e.ID] != nil { // it is never attempted
		if c.starts[e.ID] > 0 {
			t.Errorf("%s %s stands for a flow and was attempted", e.Name, e.ID)
		}
		return
	}
	lost, failed := 0, 0
	for _, a := range c.log[e.ID] {
		if a.Outcome == "lost" {
			lost++
		} else {
			failed++
		}
	}
	decisive := 0
	if e.State == storage.Completed {
		decisive = 1
	}
	alive := 0
	for _, pid := range c.pids[e.ID] {
		if !gone[pid] {
			alive++
		}
	}
	if n := c.starts[e.ID]; n < decisive+failed || n > decisive+failed+lost || alive > decisive+failed {
		t.Errorf("%s %s (%s) was started %d times, %d of them by workers that live; it was lost %d times and failed %d times",
			e.Member, e.ID, e.State, n, alive, lost, failed)
	}
	if c.ends[e.ID] < decisive {
		t.Errorf("%s %s is completed, and its handler never came to its end", e.Member, e.ID)
	}
}

// callbacks checks that each role was called once in each generation that called for it
// (Q5.17 to Q5.19): the ledger cannot tell of which a row was, so none is called more
// often than there were generations.
func (c *nestTally) callbacks(t *testing.T, f *storage.Flow) {
	t.Helper()
	called := map[storage.Role]int{}
	for _, e := range c.in[f.ID] {
		if e.Kind == storage.KindCallback {
			called[storage.Role(e.Method)]++
		}
	}
	atLeast := map[storage.Role]int{}
	if f.Roles.Has(storage.HasFinally) {
		atLeast[storage.RoleFinally] = 1
	}
	if f.Roles.Has(storage.HasCatch) && f.Failed > 0 {
		atLeast[storage.RoleCatch] = 1
	}
	if f.Roles.Has(storage.HasThen) && f.State == storage.Completed && f.Cancelled == 0 {
		atLeast[storage.RoleThen] = 1
	}
	for _, role := range []storage.Role{storage.RoleThen, storage.RoleCatch, storage.RoleFinally} {
		most := f.Generation
		if role == storage.RoleThen || f.Generation == 1 && role == storage.RoleCatch && f.Failed == 0 {
			most = atLeast[role]
		}
		if n := called[role]; n < atLeast[role] || n > most {
			t.Errorf("flow %s %q (%s, generation %d) called %s %d times, want %d to %d", f.ID, f.Name, f.State, f.Generation, role, n, atLeast[role], most)
		}
	}
}

// added checks that what a completed member added is there once, and nothing of one
// that did not (Q5.28).
func (c *nestTally) added(t *testing.T, f *storage.Flow) {
	t.Helper()
	have, want := map[string]int{}, 0
	for _, e := range c.in[f.ID] {
		if strings.HasPrefix(e.Member, "adder-added") {
			have[e.Member]++
		}
		if e.Member == "adder" && e.State == storage.Completed {
			want = 1
		}
	}
	for _, member := range []string{"adder-added0", "adder-added1"} {
		if have[member] != want {
			t.Errorf("flow %s has %s %d times, want %d", f.ID, member, have[member], want)
		}
	}
}

// order checks that nothing of a step began before the one before it was done with, nor
// that one went on after (Q6.1, Q6.2).
func (c *nestTally) order(t *testing.T, f *storage.Flow) {
	t.Helper()
	if f.Kind != storage.FlowChain {
		return
	}
	steps := slices.DeleteFunc(slices.Clone(c.in[f.ID]), func(e *storage.Execution) bool { return e.Kind == storage.KindCallback })
	slices.SortFunc(steps, func(a, b *storage.Execution) int { return cmp.Compare(a.Position, b.Position) })
	done := span{}
	for _, e := range steps {
		s := c.spanOf(e.ID)
		if s.first == 0 {
			continue
		}
		if done.last >= s.first {
			t.Errorf("in chain %s %q, step %s has lines %v of the journal, and those before it %v", f.ID, f.Name, e.Member, s, done)
		}
		done = done.with(s)
	}
}

// spanOf is that of an execution, or of all members of what it stands for.
func (c *nestTally) spanOf(id storage.ID) span {
	s := c.span[id]
	if f := c.stands[id]; f != nil {
		for _, e := range c.in[f.ID] {
			if inner := c.spanOf(e.ID); e.Kind != storage.KindCallback && inner.first > 0 {
				s = s.with(inner)
			}
		}
	}
	return s
}

// states counts rows by kind and how they ended.
func (c *nestTally) states() map[string]int {
	got := map[string]int{}
	for i := range c.rows {
		e := &c.rows[i]
		got[string(e.Kind)+" "+string(e.State)]++
	}
	return got
}

// outcome is how flows ended and how many callbacks they had. When a member is lost, others
// may run before it, and so complete before it fails instead of being cancelled.
func (c *nestTally) outcome() string {
	callbacks, states := 0, map[string]int{}
	for i := range c.rows {
		if c.rows[i].Kind == storage.KindCallback {
			callbacks++
		}
	}
	for i := range c.flows {
		states[c.flows[i].Name+" "+string(c.flows[i].State)]++
	}
	return fmt.Sprintf("%v with %d callbacks", states, callbacks)
}

func (c *nestTally) generations() map[int]int {
	n := map[int]int{}
	for i := range c.roots {
		n[c.roots[i].Generation]++
	}
	return n
}

func (c *nestTally) hasRoot(id string) bool {
	for i := range c.roots {
		if c.roots[i].ID.String() == id {
			return true
		}
	}
	return false
}
