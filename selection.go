package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Selection says which failed executions are listed, retried or forgotten, and which
// of those that are not over are cancelled. Its
// parts combine with AND; what ran as a task of a deploy run is never among them
// (see Status), and neither are migrations.
type Selection struct {
	Name  string    // of the operation: exact, or a pattern with *
	Tags  []string  // that it carries: at least one of these, and none written as "-tag"
	Group string    // of equal errors, as FailureGroups tells
	Queue string    // where it waited
	Since time.Time // failed then or later, or dispatched if it is not over; zero = ever
	All   bool      // says that nothing but States narrows it down, which RetryAll, ForgetAll and CancelAll want to be told
	Limit int       // at most so many, those dispatched last first; 0 = no limit

	// States are those it may be in, of those that a verb concerns: Failed for what is
	// listed as failed, retried or forgotten, Pending and Running for what is cancelled.
	// None are all of these; where none of them is among these, nothing is selected.
	States []storage.State
}

// String is the selection as the audit log has it.
func (sel Selection) String() string { return sel.text("failed") }

// text is the selection of what is as the word says.
func (sel Selection) text(what string) string {
	parts := []string{what}
	if len(sel.States) > 0 {
		parts = append(parts, "state="+stateWords(sel.States))
	}
	for _, p := range []struct{ what, value string }{
		{"name", sel.Name}, {"tag", strings.Join(sel.Tags, ",")}, {"group", sel.Group}, {"queue", sel.Queue},
	} {
		if p.value != "" {
			parts = append(parts, p.what+"="+p.value)
		}
	}
	if !sel.Since.IsZero() {
		parts = append(parts, "since="+sel.Since.UTC().Format(time.RFC3339))
	}
	if sel.Limit > 0 {
		parts = append(parts, fmt.Sprintf("limit=%d", sel.Limit))
	}
	return strings.Join(parts, " ")
}

func stateWords(states []storage.State) string {
	words := make([]string, len(states))
	for i, s := range states {
		words[i] = string(s)
	}
	return strings.Join(words, ",")
}

// deliberate refuses a selection of everything that was not meant.
func (sel Selection) deliberate() error {
	open := sel.Name+sel.Group+sel.Queue == "" && len(sel.Tags) == 0 && sel.Since.IsZero()
	switch {
	case open && !sel.All:
		return errors.New("nothing is selected: give a name, a tag, a group, a queue or a time, or say that all of them are meant")
	case !open && sel.All:
		return errors.New("all of them, and only some of them: give one or the other")
	}
	return sel.possible()
}

func (sel Selection) possible() error {
	if sel.Limit < 0 {
		return fmt.Errorf("limit %d: want 0 (none) or more", sel.Limit)
	}
	return nil
}

func (sel Selection) selects(row *storage.Execution) bool {
	at := row.FinishedAt
	if !row.State.Over() {
		at = row.CreatedAt
	}
	return (row.Kind == storage.Unlisted || !ownLine(row)) && MatchTags(sel.Tags, row.Tags) && (sel.Since.IsZero() || !at.Before(sel.Since))
}

// The states that selections are of.
var (
	haveFailed = []storage.State{storage.Failed}
	notOver    = []storage.State{storage.Pending, storage.Running}
)

// among are those of the states a verb concerns that sel is about.
func (sel Selection) among(concerned []storage.State) []storage.State {
	if len(sel.States) == 0 {
		return concerned
	}
	return slices.DeleteFunc(slices.Clone(concerned), func(s storage.State) bool { return !slices.Contains(sel.States, s) })
}

// onlyTag is what a store can look for by itself.
func onlyTag(filter []string) string {
	if len(filter) == 1 && !strings.HasPrefix(filter[0], "-") {
		return filter[0]
	}
	return ""
}

// ownLine reports a row that no worker would take: of a run, or of a call that
// waited for its end.
func ownLine(row *storage.Execution) bool { return strings.HasPrefix(row.Queue, storage.PrivateQueue) }

// selectionPage is how many executions one transaction of an order concerns, so
// that nobody waits long for it.
const selectionPage = 1000

// each calls fn with what sel selects in those states, a page at a time. fn may change the rows:
// pages follow their order, so that one which failed anew meanwhile does not come
// twice. A database without a ledger has none.
func (s *Sequencer) each(ctx context.Context, sel Selection, states []storage.State, fn func(rows []storage.Execution) error) error {
	if states = sel.among(states); len(states) == 0 {
		return nil // a filter without states would have all of them
	}
	f := storage.Filter{
		States: states, Kinds: []storage.Kind{storage.Unlisted, storage.Ordered},
		Name: sel.Name, Tag: onlyTag(sel.Tags), Group: sel.Group, Queue: sel.Queue, Limit: selectionPage,
	}
	left := sel.Limit
	for {
		rows, err := s.store.Executions(ctx, f)
		if err != nil {
			if noLedger(err) {
				return nil
			}
			return fmt.Errorf("reading what is selected: %w", err)
		}
		full := len(rows) == f.Limit
		if full {
			last := rows[len(rows)-1]
			f.After = &storage.Cursor{At: last.CreatedAt, ID: last.ID}
		}
		rows = slices.DeleteFunc(rows, func(row storage.Execution) bool { return !sel.selects(&row) })
		if sel.Limit > 0 {
			rows = rows[:min(len(rows), left)]
			left -= len(rows)
		}
		if len(rows) > 0 {
			if err := fn(rows); err != nil {
				return err
			}
		}
		if !full || sel.Limit > 0 && left == 0 {
			return nil
		}
	}
}

// Selected is what became of a selection.
type Selected struct {
	Done    int            `json:"done"`               // executions that were retried, forgotten or cancelled
	LeftOut map[string]int `json:"left_out,omitempty"` // executions that were not, by reason
}

func (r *Selected) leave(why string) {
	if r.LeftOut == nil {
		r.LeftOut = map[string]int{}
	}
	r.LeftOut[why]++
}

// order carries an action out on a page. What meanwhile became something else is
// left out; the rest is one transaction with one audit entry, which names the
// selection and counts, however many executions it concerns.
func (s *Sequencer) order(ctx context.Context, o storage.Order, page []storage.Execution, r *Selected) ([]storage.Execution, error) {
	for len(page) > 0 {
		o.IDs = o.IDs[:0]
		for i := range page {
			o.IDs = append(o.IDs, page[i].ID)
		}
		rows, err := s.store.Operate(ctx, o)
		if err == nil {
			r.Done += len(rows)
			return rows, nil
		}
		before := len(page)
		if page, err = s.without(ctx, page, err, r); err != nil || len(page) == before {
			return nil, err
		}
	}
	return nil, nil
}

// without drops what an order was refused for; the error is back when that is not
// known.
func (s *Sequencer) without(ctx context.Context, page []storage.Execution, refused error, r *Selected) ([]storage.Execution, error) {
	var moved *storage.TransitionError
	var held *storage.DuplicateError
	bad, why := func(storage.Execution) bool { return false }, "changed meanwhile"
	switch {
	case errors.As(refused, &moved):
		bad = func(row storage.Execution) bool { return row.ID == moved.ID }
	case errors.As(refused, &held):
		keys, err := s.liveKeys(ctx, held.Name) // there may be many: asked once, not tried one by one
		if err != nil {
			return nil, err
		}
		bad = func(row storage.Execution) bool {
			return row.UniqueKey == held.Key || row.Name == held.Name && keys[row.UniqueKey]
		}
		why = leftDuplicate
	case errors.Is(refused, storage.ErrNotFound):
		there, err := s.whole(ctx, idsOf(page, func(e storage.Execution) storage.ID { return e.ID }))
		if err != nil {
			return nil, err
		}
		bad = func(row storage.Execution) bool {
			return !slices.ContainsFunc(there, func(e storage.Execution) bool { return e.ID == row.ID })
		}
	}
	left := slices.DeleteFunc(slices.Clone(page), func(row storage.Execution) bool {
		drop := bad(row)
		if drop {
			r.leave(why)
		}
		return drop
	})
	if len(left) == len(page) {
		return nil, refused
	}
	return left, nil
}

// flowsOpen are those flows of the rows that are not over: their members belong to
// them.
func (s *Sequencer) flowsOpen(ctx context.Context, rows []storage.Execution) (map[storage.ID]bool, error) {
	open := map[storage.ID]bool{}
	var ids []storage.ID
	for i := range rows {
		if id := rows[i].FlowID; !id.IsZero() && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return open, nil
	}
	flows, err := s.store.Flows(ctx, storage.FlowFilter{IDs: ids, Open: true, Limit: len(ids)})
	for _, f := range flows {
		open[f.ID] = true
	}
	return open, err
}
