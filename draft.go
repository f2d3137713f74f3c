package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gosequencer/sequencer/storage"
)

// draft is what a Batch and a Chain have in common: all that was said of one that is
// not written yet.
type draft struct {
	kind       storage.FlowKind
	by         flowDispatcher
	name       string
	connection string // "" = that of by
	queue      string // "" = each member's own
	tags       []string
	delay      time.Duration
	policy     storage.FlowPolicy
	members    []Operation
	callbacks  map[storage.Role][]Operation
	problems   []error
}

// flowDispatcher is a Dispatcher as a draft sees it.
type flowDispatcher interface {
	dispatchFlow(ctx context.Context, d *draft) (*Flow, error)
	// place is the sequencer behind it, nil for none, and the caller's transaction.
	place() (*Sequencer, storage.Tx)
}

func newBatch(by flowDispatcher, members []Operation) *Batch {
	return &Batch{newDraft(by, storage.FlowBatch, members)}
}

func newChain(by flowDispatcher, members []Operation) *Chain {
	return &Chain{newDraft(by, storage.FlowChain, members)}
}

func newDraft(by flowDispatcher, kind storage.FlowKind, members []Operation) draft {
	return draft{kind: kind, by: by, policy: storage.PolicyStop, members: present(members), callbacks: map[storage.Role][]Operation{}}
}

// present leaves out nil ones (Q5.33, Q6.8).
func present(ops []Operation) []Operation {
	return slices.DeleteFunc(slices.Clone(ops), func(op Operation) bool {
		inner, _ := unwrap(op)
		return inner == nil || inner == Operation((*Batch)(nil)) || inner == Operation((*Chain)(nil))
	})
}

// draftOf is the draft under op, nil if it is an operation, and what With says of it.
func draftOf(op Operation) (*draft, []DispatchOption) {
	inner, opts := unwrap(op)
	switch o := inner.(type) {
	case *Batch:
		return &o.draft, opts
	case *Chain:
		return &o.draft, opts
	}
	return nil, nil
}

// String names it as people do, and shows nothing of its members.
func (d *draft) String() string {
	if d.name == "" {
		return string(d.kind)
	}
	return fmt.Sprintf("%s %q", d.kind, d.name)
}

func (d *draft) problem(err error) {
	if err != nil {
		d.problems = append(d.problems, err)
	}
}

func (d *draft) setName(name string) {
	if len(name) > storage.MaxName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		d.problem(fmt.Errorf("the name has %d bytes: use at most %d of UTF-8 text without zero bytes", len(name), storage.MaxName))
		return
	}
	d.name = name
}

func (d *draft) setConnection(name string) {
	if name == "" {
		d.problem(errors.New("the connection is empty: name one of Config.Connections, or leave OnConnection out"))
	}
	d.connection = name
}

func (d *draft) setQueue(name string) {
	d.queue = strings.TrimSpace(name)
	d.problem(checkIdentifier("queue", d.queue))
}

func (d *draft) addTags(tags []string) {
	tags = trimAll(tags)
	d.problem(checkTags(tags))
	d.tags = addTags(d.tags, tags)
}

func (d *draft) addCallbacks(role storage.Role, ops []Operation) {
	d.callbacks[role] = append(d.callbacks[role], present(ops)...)
}

func (d *draft) dispatch(ctx context.Context) (*Flow, error) {
	if d.by == nil { // a literal of the type
		return nil, fmt.Errorf("dispatch of a %T that no Dispatcher made: use Batch or Chain of a Sequencer", d)
	}
	return d.by.dispatchFlow(ctx, d)
}

func (d *draft) dispatchIf(ctx context.Context, cond bool) (*Flow, error) {
	if !cond {
		return nil, nil //nolint:nilnil // nothing was to be dispatched, and nothing was
	}
	return d.dispatch(ctx)
}

func (d *draft) notAlone() error {
	return fmt.Errorf("%s stands for its members: call its own Dispatch", d)
}
