package cli

import (
	"slices"
	"strings"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
)

// lengthOf counts what a section holds.
func lengthOf(data any) int {
	switch x := data.(type) {
	case []sequencer.Task:
		return len(x)
	case []entry:
		return len(x)
	case []string:
		return len(x)
	case []later:
		return len(x)
	case []queueEntry:
		return len(x)
	case []storage.Pause:
		return len(x)
	case []sequencer.Approval:
		return len(x)
	case []sequencer.ScheduleState:
		return len(x)
	case []sequencer.Drift:
		return len(x)
	case []storage.LockState:
		return len(x)
	case []storage.Flow:
		return len(x)
	case []migration.Migration:
		return len(x)
	}
	return 0
}

func pendingLines(u *ui, st *state) {
	for _, t := range st.Plan.Tasks {
		u.printf("%s", u.taskLine(t))
	}
}

// executions is a table: what, how, when, and why where that is not plain.
func (u *ui) executions(entries []entry) {
	rows := make([][]string, len(entries))
	for i, e := range entries {
		took := ""
		if !e.StartedAt.IsZero() && !e.FinishedAt.IsZero() {
			took = wording.Elapsed(e.FinishedAt.Sub(e.StartedAt))
		}
		rows[i] = []string{wording.Kind(e.Kind), e.Name, wording.State(&e.Execution), e.Method, stamp(e.StartedAt), stamp(e.FinishedAt), took, wording.Remark(&e.Execution)}
	}
	u.fitted([]string{"type", "name", "state", "method", "executed (UTC)", "ended (UTC)", "took", "remark"}, rows, "method", "ended (UTC)")
}

// fitted is the table, without the columns that can be spared where the terminal is
// too narrow, or as blocks of lines.
func (u *ui) fitted(header []string, rows [][]string, spares ...string) {
	for _, spare := range append([]string{""}, spares...) {
		if i := slices.Index(header, spare); i >= 0 {
			header = slices.Delete(header, i, i+1)
			for j := range rows {
				rows[j] = slices.Delete(rows[j], i, i+1)
			}
		}
		if u.fits(header, rows) {
			u.table(header, rows)
			return
		}
	}
	u.stack(header, rows)
}

// failures is the table of what went wrong, with traces for -v (S34.10).
func (u *ui) failures(entries []entry) {
	var rows [][]string
	for _, e := range entries {
		for _, f := range e.Failures {
			rows = append(rows, []string{e.Name, f.Type, wording.FirstLine(f.Message), stamp(f.FinishedAt)})
		}
	}
	if len(rows) == 0 {
		return
	}
	u.printf("")
	if header := []string{"name", "error type", "message", "time (UTC)"}; u.fits(header, rows) {
		u.table(header, rows)
	} else {
		for _, r := range rows {
			r[1], r[2], r[3] = r[3], r[1], r[2]
		}
		u.listing([]string{"name", "time (UTC)", "error type", "message"}, rows)
	}
	if !u.verbose {
		return
	}
	for _, e := range entries {
		for _, f := range e.Failures {
			u.printf("")
			u.printf("  %s, attempt %d:", e.Name, f.Number)
			for line := range strings.Lines(f.Trace) {
				u.printf("    %s", strings.TrimRight(line, "\n"))
			}
		}
	}
}
