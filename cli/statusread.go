package cli

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// state is what the sections of status show.
type state struct {
	*sequencer.Status
	entries   []entry // the effective executions and applied migrations, by time of ending
	cancelled []entry
	later     []later // due later, in the plan and in queues
	queues    []queueEntry
	pauses    []storage.Pause
	approvals []sequencer.Approval // that are open
	schedules []sequencer.ScheduleState
}

// later is what will be due.
type later struct {
	Name  string     `json:"name"`
	At    time.Time  `json:"at"`
	ID    storage.ID `json:"id,omitzero"`
	Queue string     `json:"queue,omitempty"`
	Tags  []string   `json:"tags,omitempty"`
}

// entry is an execution with the attempts of it that failed.
type entry struct {
	storage.Execution
	Attempts int               `json:"attempts"`
	Failures []storage.Attempt `json:"failures,omitempty"`
}

func readStatus(ctx context.Context, seq *sequencer.Sequencer, tags []string) (*state, error) {
	status, err := seq.Status(ctx)
	if err != nil {
		return nil, err
	}
	st := &state{Status: status, entries: entriesOf(status.Newest)}
	st.adopted()
	if st.approvals, err = seq.Approvals(ctx); err != nil {
		return nil, err
	}
	if err := st.readUnlisted(ctx, seq.Store()); err != nil {
		return nil, err
	}
	if err := st.readCancelled(ctx, seq.Store()); err != nil {
		return nil, err
	}
	queues, err := seq.Queues(ctx)
	if err != nil {
		return nil, err
	}
	st.queues = withFailed(queues, st.Counts)
	if st.pauses, err = seq.Pauses(ctx); err != nil {
		return nil, err
	}
	if st.schedules, err = seq.Schedules(ctx); err != nil {
		return nil, err
	}
	st.keep(tags)
	if err := st.readFailures(ctx, seq.Store()); err != nil {
		return nil, err
	}
	slices.SortStableFunc(st.entries, func(a, b entry) int {
		return cmp.Or(a.FinishedAt.Compare(b.FinishedAt), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Name, b.Name))
	})
	return st, nil
}

func entriesOf(rows []storage.Execution) []entry {
	entries := make([]entry, len(rows))
	for i, row := range rows {
		entries[i] = entry{Execution: row, Attempts: row.Attempts()}
	}
	return entries
}

// adopted adds migrations that are applied and that the ledger has no row of:
// their source's table is the truth.
func (st *state) adopted() {
	known := map[int64]int{} // by version: a file may have been renamed
	for i, e := range st.entries {
		if v, ok := versionOf(e.Name); ok && e.Kind == storage.Migration {
			known[v] = i + 1
		}
	}
	for _, m := range st.Migrations {
		if !m.Applied() {
			continue
		}
		if at := known[m.Version]; at > 0 && st.entries[at-1].State == storage.Completed {
			continue
		} else if at > 0 { // applied by somebody else after it failed here
			st.entries[at-1].State, st.entries[at-1].FinishedAt = storage.Completed, m.AppliedAt
			continue
		}
		st.entries = append(st.entries, entry{Execution: storage.Execution{
			Name: m.Name, Kind: storage.Migration, State: storage.Completed, CreatedAt: m.AppliedAt, FinishedAt: m.AppliedAt,
		}})
	}
}

func versionOf(migration string) (int64, bool) {
	digits, _, _ := strings.Cut(migration, "_")
	v, err := strconv.ParseInt(digits, 10, 64)
	return v, err == nil
}

// readUnlisted adds what is queued or runs outside deploy work, and puts aside what
// has yet to become due, deploy work that is queued for later included.
func (st *state) readUnlisted(ctx context.Context, store storage.Store) error {
	rows, err := store.Executions(ctx, storage.Filter{
		States: []storage.State{storage.Pending, storage.Running}, Kinds: []storage.Kind{storage.Unlisted}, Limit: 10_000,
	})
	if err != nil && !isMissingLedger(err) {
		return err
	}
	for _, l := range st.Plan.Scheduled {
		st.later = append(st.later, later{Name: l.Name, At: l.At, Tags: l.Tags})
	}
	now := time.Now()
	isLater := func(row storage.Execution) bool {
		asks := slices.ContainsFunc(st.approvals, func(a sequencer.Approval) bool { return a.Execution == row.ID.String() })
		scheduled := row.State == storage.Pending && row.Attempts() == 0 && row.DueAt.After(now) && !asks
		if scheduled {
			st.later = append(st.later, later{row.Name, row.DueAt, row.ID, wording.Queue(row.Queue), row.Tags})
		}
		return scheduled
	}
	rows = slices.DeleteFunc(rows, isLater)
	st.entries = slices.DeleteFunc(st.entries, func(e entry) bool { return isLater(e.Execution) }) // ordered ones, dispatched for later
	slices.SortStableFunc(st.later, func(a, b later) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Name, b.Name)) })
	st.entries = append(st.entries, entriesOf(rows)...)
	return nil
}

// readCancelled finds what was never started and has not been run since. The
// effective execution of an operation is never a cancelled one.
func (st *state) readCancelled(ctx context.Context, store storage.Store) error {
	rows, err := store.Executions(ctx, storage.Filter{
		States: []storage.State{storage.Cancelled}, Kinds: []storage.Kind{storage.Ordered, storage.Migration}, Limit: 1000,
	})
	if err != nil {
		if isMissingLedger(err) {
			return nil
		}
		return err
	}
	seen := map[string]bool{}
	for _, e := range st.entries {
		if storage.Satisfies(e.State, e.ForNow) {
			seen[e.Name] = true
		}
	}
	for _, row := range rows {
		if !seen[row.Name] {
			seen[row.Name] = true
			st.cancelled = append(st.cancelled, entriesOf([]storage.Execution{row})...)
		}
	}
	slices.Reverse(st.cancelled) // oldest first, as everywhere
	return nil
}

// readFailures fetches the failed attempts of what failed or waits for a person.
func (st *state) readFailures(ctx context.Context, store storage.Store) error {
	var bad []*entry
	for i := range st.entries {
		if e := &st.entries[i]; e.State == storage.Failed || e.State == storage.Interrupted || e.UndoError != "" {
			bad = append(bad, e)
		}
	}
	return readAttempts(ctx, store, bad)
}

// readAttempts fetches the attempts of executions that did not end well.
func readAttempts(ctx context.Context, store storage.Store, entries []*entry) error {
	at := map[storage.ID]*entry{}
	ids := make([]storage.ID, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
		at[e.ID] = e
	}
	if len(ids) == 0 {
		return nil
	}
	attempts, err := store.Attempts(ctx, ids...)
	for _, a := range attempts {
		if e := at[a.ExecutionID]; e != nil {
			e.Failures = append(e.Failures, a)
		}
	}
	return err
}

// in lists the entries in one of the states.
// keep leaves out what does not pass a filter of tags (S16.2).
func (st *state) keep(tags []string) {
	if len(tags) == 0 {
		return
	}
	lacks := func(e entry) bool { return !sequencer.MatchTags(tags, e.Tags) }
	st.entries, st.cancelled = slices.DeleteFunc(st.entries, lacks), slices.DeleteFunc(st.cancelled, lacks)
	st.later = slices.DeleteFunc(st.later, func(l later) bool { return !sequencer.MatchTags(tags, l.Tags) })
	st.Plan.Tasks = slices.DeleteFunc(st.Plan.Tasks, func(t sequencer.Task) bool { return !sequencer.MatchTags(tags, t.Tags) })
}

func (st *state) in(states ...storage.State) []entry {
	found := []entry{}
	for _, e := range st.entries {
		if slices.Contains(states, e.State) {
			found = append(found, e)
		}
	}
	return found
}

func isMissingLedger(err error) bool {
	var schema *storage.SchemaError
	return errors.As(err, &schema) && schema.Missing()
}
