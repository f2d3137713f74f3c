//go:build linux

package crashtest_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

// What handlers write to the journal.
const (
	started = "started"
	ended   = "ended"
)

// mayFail are the operations for which failing once is the end, and right.
var mayFail = []string{"once", "panics", "exits", "ignores", "fails", "loses"}

// tally is the outside truth, and how the ledger compares with it.
type tally struct {
	rows    []storage.Execution
	log     map[storage.ID][]storage.Attempt
	journal map[string]map[int][]int // "started id" or "ended id", attempt: the processes
	paid    map[string]int
	lost    int // attempts that ended with their worker
}

// count reads ledger, journal and users' table once everything is over, and reports
// what cannot be: an execution that is not over, or has no outcome, an attempt that ran
// twice, one that nothing explains, an effect in a shared transaction that is not there
// exactly once. gone says which processes were lost; errors are attempts that may have
// ended with an error.
func count(t *testing.T, s shift, gone map[int]bool, errors ...string) *tally {
	t.Helper()
	c := &tally{log: map[storage.ID][]storage.Attempt{}, paid: map[string]int{}, journal: readJournal(t, s.Journal)}
	within(t, s.Place, func(l *ledger) {
		c.read(t, l)
		if !s.backwards {
			storagetest.Check(t, l.Store)
		}
		c.stats(t, l)
	})
	wrong := 0
	for i := range c.rows {
		for _, problem := range c.examine(&c.rows[i], gone, errors) {
			if wrong++; wrong <= 20 {
				t.Errorf("%s %s (%s): %s", c.rows[i].Name, c.rows[i].ID, c.rows[i].State, problem)
			}
		}
	}
	if wrong > 20 {
		t.Errorf("and %d more", wrong-20)
	}
	return c
}

func (c *tally) read(t *testing.T, l *ledger) {
	t.Helper()
	filter := storage.Filter{Oldest: true, Limit: 10_000}
	for {
		page, err := l.Executions(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		c.rows = append(c.rows, page...)
		if len(page) < filter.Limit {
			break
		}
		last := page[len(page)-1]
		filter.After = &storage.Cursor{At: last.CreatedAt, ID: last.ID}
	}
	for chunk := range slices.Chunk(c.rows, 1000) {
		var ids []storage.ID
		for _, row := range chunk {
			ids = append(ids, row.ID)
		}
		attempts, err := l.Attempts(t.Context(), ids...)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range attempts {
			c.log[a.ExecutionID] = append(c.log[a.ExecutionID], a)
			if a.Outcome == "lost" {
				c.lost++
			}
		}
	}
	if l.db != nil {
		for _, id := range list(t, l.db, "SELECT id FROM paid") {
			c.paid[id]++
		}
	}
}

// stats checks that each ending was counted once, in the transaction that recorded it.
func (c *tally) stats(t *testing.T, l *ledger) {
	t.Helper()
	stats, err := l.Stats(t.Context(), storage.StatsFilter{})
	if err != nil {
		t.Fatal(err)
	}
	recorded, have := map[string]int{}, map[string]int{}
	for _, s := range stats {
		if s.Ending != "retried" {
			recorded[s.Ending] += int(s.N)
		}
	}
	for _, row := range c.rows {
		have[string(row.State)]++
	}
	if fmt.Sprint(recorded) != fmt.Sprint(have) {
		t.Errorf("endings were recorded %v times, the ledger holds %v", recorded, have)
	}
}

// examine compares one execution with what happened.
func (c *tally) examine(e *storage.Execution, gone map[int]bool, errors []string) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	id, last := e.ID.String(), e.Attempts()
	starts, ends := c.journal[started+" "+id], c.journal[ended+" "+id]
	for n, pids := range starts {
		if len(pids) > 1 {
			wrong("attempt %d was started %d times", n, len(pids))
		}
		if n > last {
			wrong("attempt %d was started, and the ledger knows of %d", n, last)
		}
	}
	explained := map[int]bool{}
	for _, a := range c.log[e.ID] {
		explained[a.Number] = true
		switch pids := starts[a.Number]; {
		case a.Outcome == "lost" && len(pids) == 1 && !gone[pids[0]]:
			wrong("attempt %d counts as lost, and process %d, which made it, was not; %s wrote so at %s", a.Number, pids[0], a.WorkerID, a.FinishedAt.Format(time.StampMilli))
		case a.Outcome != "lost" && !slices.Contains(errors, a.Outcome):
			wrong("attempt %d: %s: %s", a.Number, a.Outcome, a.Message)
		}
	}
	for n := 1; n < last; n++ {
		if !explained[n] {
			wrong("nothing explains why attempt %d of %d was not the last", n, last)
		}
	}
	want := 0
	switch {
	case !e.State.Over():
		wrong("it is not over")
	case e.State == storage.Completed:
		want = 1
		if len(starts[last]) != 1 || len(ends[last]) != 1 {
			wrong("its last attempt, %d, was started %d times and ended %d times", last, len(starts[last]), len(ends[last]))
		}
	case e.State != storage.Failed || e.Losses < sequencer.MaxLost && !slices.Contains(mayFail, e.Name):
		wrong("it ended so after %d lost workers in a row and %d errors: %s", e.Losses, e.Errors, e.LastError)
	}
	if e.Name == "pay" && c.paid[id] != want {
		wrong("it was paid %d times, want %d", c.paid[id], want)
	}
	return problems
}

func (c *tally) ended(as storage.State) (n int) {
	for _, row := range c.rows {
		if row.State == as {
			n++
		}
	}
	return n
}

func (c *tally) states() map[string]int {
	got := map[string]int{}
	for _, row := range c.rows {
		got[row.Name+" "+string(row.State)]++
	}
	return got
}

func readJournal(t *testing.T, path string) map[string]map[int][]int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	all := map[string]map[int][]int{}
	for line := range strings.Lines(string(text)) {
		var what, id string
		var number, pid int
		if n, err := fmt.Sscan(line, &what, &id, &number, &pid); n < 4 {
			t.Fatalf("journal: %q: %v", line, err)
		}
		if all[what+" "+id] == nil {
			all[what+" "+id] = map[int][]int{}
		}
		all[what+" "+id][number] = append(all[what+" "+id][number], pid)
	}
	return all
}
