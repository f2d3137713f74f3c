package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// topCommand shows queues and workers until it is stopped.
type topCommand struct {
	every time.Duration
	once  bool
}

// lately is the time that rates are of; statistics are by minute.
const lately = 2 * time.Minute

const (
	topMost     = 10  // of operations, and of running executions, so many are shown…
	runningMost = 500 // …of so many that are read
)

func newTop(a *app) *cobra.Command {
	c := &topCommand{}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch queues and workers live",
		Long: "Shows how deep each queue is, what runs and for how long, which operations took most of the last two\n" +
			"minutes, and who works, and draws it anew every --every until q or Ctrl-C. Where nobody watches, in a pipe or with --json, it\n" +
			"is one look, as with --once.",
		Example: "  " + a.root.Name() + " top\n" +
			"  " + a.root.Name() + " top --every 10s\n" +
			"  " + a.root.Name() + " top --json | jq '.queues[] | select(.age_ns > 60e9) | .queue'",
		Args: takes(),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	f.DurationVar(&c.every, "every", 2*time.Second, "how often it looks")
	f.BoolVar(&c.once, "once", false, "look once")
	return cmd
}

func (c *topCommand) body(ctx context.Context, s *session) error {
	if c.every < 100*time.Millisecond {
		return usagef("--every %s: want 100ms or more", c.every)
	}
	if c.once || !s.live {
		v, err := readTop(ctx, s.Seq, time.Now())
		switch {
		case err != nil:
			return err
		case s.json:
			s.document(v)
		default:
			s.top(v)
		}
		return nil
	}
	return s.watchTop(ctx, c.every)
}

// topView is one look.
type topView struct {
	At         time.Time                `json:"at"`
	Queues     []sequencer.QueueStatus  `json:"queues"`
	Workers    []sequencer.WorkerStatus `json:"workers"`
	Running    []storage.Execution      `json:"running"` // those that have run longest first
	Operations []topOperation           `json:"operations"`
	Per        time.Duration            `json:"per_ns"` // what the numbers of operations are of
}

// topOperation is what an operation did lately.
type topOperation struct {
	Name string `json:"operation"`
	storage.Tally
}

// readTop looks at counters and at what runs, never at what waits or is over.
func readTop(ctx context.Context, seq *sequencer.Sequencer, now time.Time) (v topView, err error) {
	since := now.Add(-lately).Truncate(time.Minute).Add(time.Minute) // whole minutes, and this one
	v = topView{At: now, Per: now.Sub(since)}
	if v.Queues, err = seq.Queues(ctx); err != nil {
		return v, err
	}
	if v.Workers, err = seq.Workers(ctx); err != nil {
		return v, err
	}
	store := seq.Store()
	running, err := store.Executions(ctx, storage.Filter{States: []storage.State{storage.Running}, Oldest: true, Limit: runningMost})
	if err != nil && !isMissingLedger(err) {
		return v, err
	}
	running = slices.DeleteFunc(running, func(e storage.Execution) bool { return e.Kind == storage.Hook || e.Kind == storage.Nested })
	slices.SortStableFunc(running, func(a, b storage.Execution) int { return a.StartedAt.Compare(b.StartedAt) })
	v.Running = notNil(running)
	stats, err := store.Stats(ctx, storage.StatsFilter{Since: since})
	if err != nil && !isMissingLedger(err) {
		return v, err
	}
	v.Operations = operationsOf(stats)
	return v, nil
}

// operationsOf sums statistics by operation, those first that kept most slots busy.
func operationsOf(stats []storage.Stat) []topOperation {
	all := map[string]*topOperation{}
	for i := range stats {
		name := stats[i].Name
		if all[name] == nil {
			all[name] = &topOperation{Name: name}
		}
		all[name].Add(&stats[i])
	}
	list := make([]topOperation, 0, len(all))
	for _, o := range all {
		list = append(list, *o)
	}
	slices.SortFunc(list, func(a, b topOperation) int {
		return cmp.Or(cmp.Compare(b.Ran, a.Ran), cmp.Compare(b.N(), a.N()), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// top writes a look.
func (u *ui) top(v topView) {
	u.printf("%s", u.topLine(v))
	u.printf("")
	u.topQueues(v)
	u.topRunning(v)
	u.topOperations(v)
	u.topWorkers(v)
}

// topLine is everything in one line.
func (u *ui) topLine(v topView) string {
	var sum storage.QueueState
	var oldest time.Duration
	for _, q := range v.Queues {
		sum.Ready += q.Ready
		sum.Running += q.Running
		sum.Scheduled += q.Scheduled
		oldest = max(oldest, q.Age)
	}
	slots := 0
	for i := range v.Workers {
		if v.Workers[i].Serves() {
			slots += v.Workers[i].Slots
		}
	}
	var done, failed int64
	for i := range v.Operations {
		done += v.Operations[i].Completed
		failed += v.Operations[i].Failed
	}
	ready := u.paint(bold, number(sum.Ready)) + " ready"
	if oldest >= time.Second {
		ready += " (for " + wording.Roughly(oldest) + ")"
	}
	busy := fmt.Sprintf("%s of %d slots busy", u.paint(bold, number(sum.Running)), slots)
	ended := u.paint(bold, v.rate(done)) + " done/min"
	look := plain
	if failed > 0 {
		look = red
	}
	return u.wrapped(ready, busy, number(sum.Scheduled)+" later", ended, u.paint(look, v.rate(failed)+" failed/min"))
}

// wrapped puts parts on as many lines as the terminal makes of them.
func (u *ui) wrapped(parts ...string) string {
	var line strings.Builder
	wide := 0
	for _, part := range parts {
		w := text.StringWidthWithoutEscSequences(part) + 2 //nolint:mnd // the gap between two
		switch {
		case wide == 0:
		case u.live && wide+w > u.width():
			line.WriteString("\n")
			wide = 0
		default:
			line.WriteString("  ")
		}
		line.WriteString(part)
		wide += w
	}
	return line.String()
}

// rate is a number by the minute.
func (v topView) rate(n int64) string {
	perMinute := float64(n) / v.Per.Minutes()
	if perMinute == 0 || perMinute >= 10 {
		return fmt.Sprintf("%.0f", perMinute)
	}
	return fmt.Sprintf("%.1f", perMinute)
}

// barWidth is how many columns a bar has.
const barWidth = 10

// bar shows a share of 1, filled from the left.
func bar(share float64) string {
	full := int(min(max(share, 0), 1)*barWidth + 0.5) //nolint:mnd // rounded
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
}

func (u *ui) topQueues(v topView) {
	if len(v.Queues) == 0 {
		u.printf("  No queue holds anything, and no worker serves one.")
		return
	}
	most := int64(1)
	for _, q := range v.Queues {
		most = max(most, q.Ready)
	}
	var rows [][]string
	for _, q := range v.Queues {
		name, look := q.Queue, plain
		switch {
		case q.Paused:
			name += " " + u.paint(yellow, "(paused)")
		case q.Ready > 0 && q.Workers == 0:
			name += " " + u.paint(red, "(nobody serves it)")
			look = red
		}
		rows = append(rows, []string{
			name, u.paint(cyan, bar(float64(q.Ready)/float64(most))), u.paint(look, number(q.Ready)), wording.Roughly(q.Age), number(q.Running),
			number(q.Scheduled), number(q.Blocked + q.Parked), number(int64(q.Workers)),
		})
	}
	u.fitted([]string{"queue", "depth", "ready", "oldest", "running", "later", "waiting", "workers"}, rows, "waiting", "later", "depth")
}

// longest is how long an execution runs, or does, until it is shown by itself.
const longest = 5 * time.Second

// topRunning has a line for each execution that runs for long or says how far it is, and one
// for all others of an operation.
func (u *ui) topRunning(v topView) {
	hosts := map[storage.ID]string{}
	for i := range v.Workers {
		hosts[v.Workers[i].ID] = fmt.Sprintf("%s:%d", v.Workers[i].Hostname, v.Workers[i].PID)
	}
	var rows [][]string
	short := map[string]int{}
	for i := range v.Running {
		e := &v.Running[i]
		ran := v.At.Sub(e.StartedAt)
		if ran < longest && e.Total == 0 {
			short[e.Name]++
			continue
		}
		if len(rows) < topMost {
			rows = append(rows, []string{e.Name, wording.Roughly(ran.Round(time.Second)), u.topProgress(e), number(int64(e.Attempts())), hosts[e.WorkerID], e.ID.String()})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(short)) {
		if len(rows) < topMost {
			rows = append(rows, []string{fmt.Sprintf("%s × %d", name, short[name]), "", "", "", "", ""})
		}
	}
	if len(rows) > 0 {
		u.printf("")
		u.fitted([]string{"running", "for", "progress", "attempt", "on", "id"}, rows, "id", "on", "attempt", "progress")
	}
}

func (u *ui) topProgress(e *storage.Execution) string {
	if e.Total == 0 {
		return ""
	}
	return u.paint(cyan, bar(float64(e.Done)/float64(e.Total))) + " " + wording.Progress(e)
}

func (u *ui) topOperations(v topView) {
	if len(v.Operations) == 0 {
		return
	}
	var rows [][]string
	for _, o := range v.Operations[:min(len(v.Operations), topMost)] {
		look := plain
		if o.Failed > 0 {
			look = red
		}
		rows = append(rows, []string{
			o.Name, v.rate(o.Completed), u.paint(look, v.rate(o.Failed)), v.rate(o.Retried), wording.Elapsed(o.MeanRan()), wording.Elapsed(o.MeanWaited()),
			fmt.Sprintf("%.1f", o.Ran.Seconds()/v.Per.Seconds()),
		})
	}
	u.printf("")
	u.fitted([]string{"lately", "done/min", "failed/min", "retried/min", "runs", "waited", "slots"}, rows, "retried/min", "waited")
}

func (u *ui) topWorkers(v topView) {
	var rows [][]string
	for i := range v.Workers {
		w := &v.Workers[i]
		state := "works"
		if w.Gone {
			state = u.paint(red, "gone")
		} else if !w.Serves() {
			state = w.Purpose
		}
		rows = append(rows, []string{
			fmt.Sprintf("%s:%d", w.Hostname, w.PID), state, strings.Join(w.Queues, ","), slotsOf(w), wording.Roughly(v.At.Sub(w.JoinedAt)), w.Version,
		})
	}
	if len(rows) == 0 {
		return
	}
	u.printf("")
	u.fitted([]string{"worker", "does", "queues", "slots", "up", "version"}, rows, "version", "up")
}

func slotsOf(w *sequencer.WorkerStatus) string {
	if w.Slots == 0 {
		return ""
	}
	return number(int64(w.Slots))
}

// Sequences that terminals know: a screen of its own and back, no cursor and one, up to the
// corner, and what is left of a line or of the screen is empty.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	corner      = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// watchTop draws looks on a screen of its own until q, Ctrl-C or the end of ctx. A look that
// fails is told in place of the numbers: the next one may succeed.
func (s *session) watchTop(ctx context.Context, every time.Duration) error {
	ctx, stop := context.WithCancel(ctx) // a database that hangs does not keep anybody
	defer stop()
	defer s.keyboard(stop)()
	fmt.Fprint(s.out, enterScreen)
	defer fmt.Fprint(s.out, leaveScreen)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for s.out.err == nil {
		now := time.Now()
		v, err := readTop(ctx, s.Seq, now)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to stop, and has nothing to undo
		}
		s.draw(v, err, every)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
	return s.out.err
}

// draw writes a look over the one before.
func (s *session) draw(v topView, failed error, every time.Duration) {
	var drawn bytes.Buffer
	page := *s.ui
	page.out, page.columns = &answer{Writer: &drawn}, s.width()
	page.printf("%s  %s  every %s, q ends it", page.paint(bold, s.name+" top"), stamp(v.At), every)
	if failed != nil {
		page.printf("%s", page.paint(red, explain(failed)))
	} else {
		page.top(v)
	}
	lines := strings.Split(strings.TrimRight(drawn.String(), "\n"), "\n")
	lines = lines[:min(len(lines), s.height()-1)]
	for i := range lines {
		lines[i] = text.Trim(lines[i], page.columns)
	}
	fmt.Fprint(s.out, corner+strings.Join(lines, clearLine+"\r\n")+clearLine+clearBelow)
}

// height is the terminal's.
func (u *ui) height() int {
	if f, ok := u.out.Writer.(*os.File); ok {
		if _, h, err := term.GetSize(int(f.Fd())); err == nil && h > 2 {
			return h
		}
	}
	return 24
}

// keyboard calls quit at q and Ctrl-C, where there is a keyboard. Until restore, keys are not
// shown.
func (s *session) keyboard(quit func()) (restore func()) {
	in, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return func() {}
	}
	was, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return func() {}
	}
	go func() { // a read cannot be interrupted; the process ends with it
		for key := make([]byte, 1); ; {
			if n, err := in.Read(key); err != nil || n == 1 && slices.Contains([]byte{'q', 'Q', 3, 4}, key[0]) {
				quit()
				return
			}
		}
	}()
	return func() { _ = term.Restore(int(in.Fd()), was) }
}
