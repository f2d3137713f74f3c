package cli

import (
	"fmt"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// section is one part of status.
type section struct {
	key, flag string
	title     string
	always    bool            // shown although it is empty
	tagged    bool            // it lists what has tags
	states    []storage.State // what --history shows of it
	data      func(st *state) any
	lines     func(u *ui, st *state) // nil = a table of executions
}

// sections in the order they are shown. None is changed while the program runs.
var sections = []section{
	{
		key: "pending", flag: "pending", title: "Pending", always: true, tagged: true, states: []storage.State{storage.Pending},
		data:  func(st *state) any { return notNil(st.Plan.Tasks) },
		lines: pendingLines,
	},
	executionSection("completed", "Completed", true, storage.Completed),
	executionSection("failed", "Failed", true, storage.Failed),
	{
		key: "running", flag: "running", title: "Running and queued", tagged: true, states: []storage.State{storage.Running, storage.Pending},
		data: func(st *state) any { return append(st.in(storage.Running), st.in(storage.Pending)...) },
	},
	executionSection("skipped", "Skipped", false, storage.Skipped),
	executionSection("rolled_back", "Rolled back", false, storage.RolledBack),
	{
		key: "cancelled", flag: "cancelled", title: "Cancelled", tagged: true, states: []storage.State{storage.Cancelled},
		data: func(st *state) any { return notNil(st.cancelled) },
	},
	executionSection("interrupted", "Interrupted: a person must decide, with retry or resolve", false, storage.Interrupted),
	{
		key: "scheduled", flag: "scheduled", title: "Scheduled for later", tagged: true,
		data: func(st *state) any { return notNil(st.later) },
		lines: func(u *ui, st *state) {
			for _, l := range st.later[:min(len(st.later), listed)] {
				where := ""
				if l.Queue != "" {
					where = "  queue " + l.Queue
				}
				u.printf("  %s  %s%s", l.Name, stamp(l.At), where)
			}
			u.rest(len(st.later))
		},
	},
	{
		key: "queues", flag: "queues", title: "Queues",
		data:  func(st *state) any { return notNil(st.queues) },
		lines: func(u *ui, st *state) { u.queueTable(st.queues) },
	},
	{
		key: "schedules", flag: "schedules", title: "Schedules",
		data:  func(st *state) any { return notNil(st.schedules) },
		lines: func(u *ui, st *state) { u.scheduleTable(st.schedules) },
	},
	{
		key: "approvals", flag: "approvals", title: "Waiting for approval",
		data:  func(st *state) any { return notNil(st.approvals) },
		lines: approvalLines,
	},
	{
		key: "paused", flag: "paused", title: "Paused",
		data: func(st *state) any { return notNil(st.pauses) },
		lines: func(u *ui, st *state) {
			for _, p := range st.pauses {
				u.printf("  %s  %s", p.Target(), pausedBy(p))
			}
		},
	},
	namesSection("unknown", "In the ledger, and not registered", func(st *state) []string { return st.Plan.Unknown }),
	namesSection("missing", "Applied, and the file is gone", func(st *state) []string { return st.Plan.Missing }),
	{
		key: "drift", flag: "drift", title: "Changed after it was applied",
		data: func(st *state) any { return notNil(st.Plan.Drift) },
		lines: func(u *ui, st *state) {
			for _, d := range st.Plan.Drift {
				u.printf("  %s  applied %.12s, now %.12s", d.Name, d.Applied, d.Found)
			}
		},
	},
	{
		key: "locks", flag: "locks", title: "Locks",
		data: func(st *state) any { return notNil(st.Locks) },
		lines: func(u *ui, st *state) {
			for _, l := range st.Locks {
				u.printf("  %s  held by %s (%s on %s, pid %d) since %s", l.Name, l.Worker.Actor, l.Worker.Purpose, l.Worker.Hostname, l.Worker.PID, stamp(l.AcquiredAt))
			}
		},
	},
	{
		key: "open_runs", flag: "open-runs", title: "Runs that are not over",
		data: func(st *state) any { return notNil(st.Open) },
		lines: func(u *ui, st *state) {
			for _, f := range st.Open {
				u.printf("  %s %s  by %s since %s, %d of %d open", f.Kind, f.ID, f.Actor, stamp(f.CreatedAt), f.Open(), f.Total)
			}
		},
	},
}

func executionSection(key, title string, always bool, states ...storage.State) section {
	return section{
		key: key, flag: strings.ReplaceAll(key, "_", "-"), title: title, always: always, tagged: true, states: states,
		data: func(st *state) any { return st.in(states...) },
	}
}

func namesSection(key, title string, names func(st *state) []string) section {
	return section{
		key: key, flag: key, title: title,
		data: func(st *state) any { return notNil(names(st)) },
		lines: func(u *ui, st *state) {
			for _, name := range names(st) {
				u.printf("  %s", name)
			}
		},
	}
}

// listed is how many rows of a queue status lists; --json has more.
const listed = 20

// rest says that there are more.
func (u *ui) rest(n int) {
	if n > listed {
		u.printf("  … and %d more", n-listed)
	}
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// print shows the section; an empty one says so if it was asked for (S34.10).
func (x section) print(u *ui, st *state, evenEmpty bool) {
	n := lengthOf(x.data(st))
	if n == 0 && !evenEmpty {
		return
	}
	if n == 0 {
		u.printf("%s none", u.paint(bold, x.title+":"))
		return
	}
	u.printf("%s", u.paint(bold, fmt.Sprintf("%s: %d", x.title, n)))
	if x.lines != nil {
		x.lines(u, st)
		return
	}
	entries, _ := x.data(st).([]entry)
	if x.key == "running" {
		entries = entries[:min(len(entries), listed)]
	}
	u.executions(entries)
	if x.key == "running" {
		u.rest(n)
	}
	u.failures(entries)
}
