package sequencer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/storage"
)

// plain is an operation as the arranger's tests see it.
type plain string

func (plain) Handle(context.Context) error { return nil }

// maker is a Dispatcher that only makes drafts.
type maker struct {
	seq *Sequencer
	tx  storage.Tx
}

func (m maker) dispatchFlow(context.Context, *draft) (*Flow, error) { return nil, errNoSequencer }
func (m maker) place() (*Sequencer, storage.Tx)                     { return m.seq, m.tx }
func (m maker) Batch(ops ...Operation) *Batch                       { return newBatch(m, ops) }
func (m maker) Chain(ops ...Operation) *Chain                       { return newChain(m, ops) }

// testArranger makes rows without a registry: "gone" is not registered, "may" may
// fail, "far" is on another connection.
func testArranger(by flowDispatcher) *arranger {
	return &arranger{
		connection: "default", by: by, queue: "default", actor: "me",
		row: func(op Operation, method string, in inherited) (storage.Execution, error) {
			inner, opts := unwrap(op)
			q := newRequest(append(opts, in))
			name, ok := inner.(plain)
			switch {
			case !ok:
				return storage.Execution{}, fmt.Errorf("unexpected %T", inner)
			case name == "gone":
				return storage.Execution{}, &UnknownOperationError{Name: "gone"}
			}
			row := storage.Execution{
				ID: storage.NewID(), Name: string(name), Kind: storage.Unlisted, Method: method, Queue: firstOf(q.queue, in.Queue, "own"),
				Tags: addTags(in.Tags, q.tags), AllowedToFail: name == "may", Member: q.member, Delay: in.delay, UniqueKey: "key",
			}
			if q.scheduled {
				row.Delay = q.delay
			}
			return row, nil
		},
	}
}

// drawn is an arrangement as lines: flows with who stands for them, rows with what
// they come after ("!" needs it).
func drawn(a arranged) []string {
	names := map[storage.ID]string{}
	for i, f := range a.flows {
		names[f.ID] = fmt.Sprintf("flow%d", i+1)
	}
	for _, r := range a.rows {
		names[r.ID] = firstOf(names[r.FlowID], "callback") + "/" + r.Member
	}
	var lines []string
	for _, f := range a.flows {
		line := fmt.Sprintf("%s %s %s of %d", names[f.ID], f.Kind, f.Policy, f.Total)
		if !f.ParentID.IsZero() {
			line += " in " + names[f.ParentID]
		}
		lines = append(lines, line)
		for _, c := range f.Callbacks {
			for _, l := range drawn(arranged{flows: c.Flows, rows: c.Executions, edges: c.Edges}) {
				lines = append(lines, "  "+string(c.Role)+" "+l)
			}
		}
	}
	for _, r := range a.rows {
		line := fmt.Sprintf("%s %s %s %d", names[r.ID], r.Kind, r.Queue, r.Position)
		if r.Delay > 0 {
			line += " " + r.Delay.String()
		}
		for _, e := range a.edges {
			if e.To == r.ID {
				line += " <" + names[e.From]
				if e.Needs {
					line += "!"
				}
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func TestBuiltTreesBecomeFlowsRowsAndEdges(t *testing.T) {
	t.Parallel()
	m := maker{}
	for _, c := range []struct {
		name string
		tree *draft
		want []string
	}{
		{"an empty batch", &m.Batch().draft, []string{"flow1 batch stop of 0"}},
		{"a batch without its nil members (Q5.33)", &m.Batch(plain("a"), nil, With(plain("a"), As("b")), (*Chain)(nil)).AllowFailures().draft, []string{
			"flow1 batch continue of 2", "flow1/a unlisted own 0", "flow1/b unlisted own 1",
		}},
		{
			"a chain, whose step waits for the one before (Q6.1); what may fail is only waited for",
			&m.Chain(plain("a"), plain("may"), plain("c")).OnQueue("q").draft,
			[]string{
				"flow1 chain stop of 3", "flow1/a unlisted q 0", "flow1/may unlisted q 1 <flow1/a!", "flow1/c unlisted q 2 <flow1/may",
			},
		},
		{
			"the queue of a step wins over the chain's, the chain's delay is the first one's (Q6.6, Q6.7)",
			&m.Chain(plain("a"), With(plain("b"), OnQueue("r"), Delay(time.Hour)), plain("c")).OnQueue("q").Delay(time.Minute).draft,
			[]string{
				"flow1 chain stop of 3", "flow1/a unlisted q 0 1m0s", "flow1/b unlisted r 1 1h0m0s <flow1/a!", "flow1/c unlisted q 2 <flow1/b!",
			},
		},
		{"a batch in a batch", &m.Batch(plain("a"), m.Batch(plain("b"))).draft, []string{
			"flow1 batch stop of 2", "flow2 batch stop of 1 in flow1/batch",
			"flow1/a unlisted own 0", "flow1/batch nested default 1", "flow2/b unlisted own 0",
		}},
		{"a batch in a chain: its members come after what its row comes after", &m.Chain(plain("a"), m.Batch(plain("x"), plain("y")), plain("z")).draft, []string{
			"flow1 chain stop of 3", "flow2 batch stop of 2 in flow1/batch",
			"flow1/a unlisted own 0", "flow1/batch nested default 1 <flow1/a!",
			"flow2/x unlisted own 0 <flow1/a!", "flow2/y unlisted own 1 <flow1/a!", "flow1/z unlisted own 2 <flow1/batch!",
		}},
		{"chains in a batch, one in a chain again", &m.Batch(m.Chain(m.Chain(plain("a"), plain("b")).Name("inner"), plain("c")), plain("d")).draft, []string{
			"flow1 batch stop of 2", "flow2 chain stop of 2 in flow1/chain", "flow3 chain stop of 2 in flow2/inner",
			"flow1/chain nested default 0", "flow2/inner nested default 0", "flow3/a unlisted own 0", "flow3/b unlisted own 1 <flow3/a!",
			"flow2/c unlisted own 1 <flow2/inner!", "flow1/d unlisted own 1",
		}},
		{
			"callbacks in their order (Q5.19), one a chain with a callback of its own",
			&m.Batch(plain("a")).Then(plain("t"), m.Chain(plain("u"), plain("v")).Catch(plain("w"))).Catch(plain("e")).Then(plain("x")).OnQueue("q").draft,
			[]string{
				"flow1 batch stop of 1",
				"  catch callback/e callback q 0",
				"  then flow1 chain stop of 2 in callback/chain", "  then   catch callback/w callback q 0",
				"  then callback/t callback q 0", "  then callback/chain callback q 1 <callback/t",
				"  then flow1/u unlisted q 0 <callback/t", "  then flow1/v unlisted q 1 <flow1/u!",
				"  then callback/x callback q 2 <callback/chain",
				"flow1/a unlisted q 0",
			},
		},
		{"what With says of a nested one", &m.Batch(With(m.Chain(plain("a"), plain("b")).OnQueue("c"), OnQueue("w"), As("first"), Delay(time.Hour))).OnQueue("o").draft, []string{
			"flow1 batch stop of 1", "flow2 chain stop of 2 in flow1/first", "flow1/first nested w 0", "flow2/a unlisted w 0 1h0m0s", "flow2/b unlisted w 1 <flow2/a!",
		}},
		{"a chain that rolls back", &m.Chain(plain("a")).RollbackOnFailure().draft, []string{"flow1 chain compensate of 1", "flow1/a unlisted own 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := testArranger(m).arrange(c.tree)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, drawn(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatIsBuiltWrongIsSaidAtDispatch(t *testing.T) {
	t.Parallel()
	m := maker{}
	self := m.Batch(plain("a")).Name("loop")
	self.Then(m.Chain(plain("b"), self))
	many := make([]Operation, 30)
	for i := range many {
		many[i] = plain("gone")
	}
	for _, c := range []struct {
		name string
		tree *draft
		is   error
		want []string
	}{
		{"an empty chain (Q6.13)", &m.Batch(m.Chain(nil)).draft, ErrEmptyChain, []string{"batch: member 1: chain: a chain without steps: give it one, or leave it out"}},
		{"a batch in itself", &self.draft, ErrCircularDependency, []string{
			`batch "loop": then callback 1: chain: step 2: circular dependency: batch "loop" → chain → batch "loop": nothing can be inside itself: build another one`,
		}},
		{"an unknown member (S18.12)", &m.Chain(plain("a"), plain("gone")).Name("x").draft, ErrOperationNotFound, []string{
			`chain "x": step 2: operation "gone" is not registered: register it under that name, or correct the name`,
		}},
		{"an unknown callback", &m.Batch().Catch(plain("a"), plain("gone")).draft, ErrOperationNotFound, []string{"batch: catch callback 2: operation"}},
		{"another connection (Q5.34)", &m.Batch(m.Chain(plain("a")).OnConnection("redis")).draft, nil, []string{
			"batch: member 1: chain: it is to be on connection redis, and what it is in is on default: one write reaches one connection, dispatch them apart",
		}},
		{"another connection, by With", &m.Batch(With(m.Chain(plain("a")), OnConnection("redis"))).draft, nil, []string{"connection redis"}},
		{"another Dispatcher", &m.Batch(maker{seq: &Sequencer{}}.Chain(plain("a"))).draft, nil, []string{"made by another Dispatcher"}},
		{"a transaction inside", &m.Batch(maker{tx: noTx{}}.Chain(plain("a"))).draft, nil, []string{"make the outermost by In(tx)"}},
		{"an empty batch that calls, in a callback", &m.Batch().Then(m.Batch().Then(plain("a"))).draft, nil, []string{"then callback 1: batch: it is empty and part of a callback"}},
		{"nesting in what rolls back", &m.Chain(m.Batch()).RollbackOnFailure().draft, nil, []string{"step 1: batch in a chain that rolls back"}},
		{"tries of a batch", &m.Chain(With(m.Batch(), Tries(3))).draft, nil, []string{"say Tries and RetryFor of its members"}},
		{"bad options, all told", &m.Batch().OnQueue("a b").Tagged("").Name(strings.Repeat("n", 200)).OnConnection("").draft, nil, []string{
			`queue "a b" contains`, "the tag is empty", "the name has 200 bytes", "the connection is empty",
		}},
		{"a negative delay", &m.Chain(plain("a")).Delay(-1).draft, nil, []string{"negative"}},
		{"the same mistake thirty times", &m.Batch(many...).draft, ErrOperationNotFound, []string{"member 10:", "and 20 more"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := testArranger(m).arrange(c.tree)
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("got %v, want %v", err, c.is)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
		})
	}
}

func TestOneDraftMayBeUsedTwice(t *testing.T) {
	t.Parallel()
	m := maker{}
	c := m.Chain(plain("a"))
	got, err := testArranger(m).arrange(&m.Batch(c, c).Then(c).draft)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.flows) != 3 || got.flows[1].ID == got.flows[2].ID || got.rows[1].ID == got.rows[3].ID {
		t.Errorf("the two have ids in common: %v", drawn(got))
	}
}

func TestWhatMembersInheritIsKeptForLaterOnes(t *testing.T) {
	t.Parallel()
	m := maker{}
	all, err := testArranger(m).arrange(&m.Batch(plain("a")).OnQueue("q").Tagged("x", "y").draft)
	if err != nil {
		t.Fatal(err)
	}
	in, err := readInherited(all.flows[0].Options)
	if err != nil {
		t.Fatal(err)
	}
	more, err := testArranger(m).add(storage.FlowBatch, all.flows[0].ID, 5, []Operation{plain("b"), nil}, in)
	if err != nil || len(more.rows) != 1 {
		t.Fatalf("got %v, %v", more, err)
	}
	if row := more.rows[0]; row.Queue != "q" || strings.Join(row.Tags, ",") != "x,y" || row.Position != 5 || row.FlowID != all.flows[0].ID {
		t.Errorf("added %+v", row)
	}
	if plainOptions, _ := readInherited(nil); plainOptions.options() != nil {
		t.Error("nothing inherited is kept as something")
	}
}

func TestTheStoreJoinsWhatIsAddedToAChain(t *testing.T) {
	t.Parallel()
	m := maker{}
	flow := storage.NewID()
	got, err := testArranger(m).add(storage.FlowChain, flow, 3, []Operation{plain("a"), m.Batch(plain("x")), m.Chain(plain("y"), plain("z"))}, inherited{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.edges) != 1 || got.edges[0].From != got.rows[4].ID || got.edges[0].To != got.rows[5].ID {
		t.Errorf("Q6.8: edges beside the one in the inner chain: %v", drawn(got))
	}
	for _, row := range got.rows {
		if row.UniqueKey != "" {
			t.Errorf("Q4.12: %s has its key before it runs", row.Name)
		}
	}
}

// noTx is a transaction that nothing is done in.
type noTx struct{}

func (noTx) Native() any { return 0 }
