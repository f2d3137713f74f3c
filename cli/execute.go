package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// executeCommand runs or queues one operation, whatever the ledger says of it.
type executeCommand struct {
	input  string
	sync   bool
	async  bool
	queue  string
	noWait bool
	at     moment
	key    string
}

func newExecute(a *app) *cobra.Command {
	c := &executeCommand{at: moment{ahead: true}}
	cmd := &cobra.Command{
		Use:   "execute NAME",
		Short: "Run one operation, again if it is done",
		Long: "Runs one operation here and now, or queues it for a worker if it is asynchronous or --async says so. It\n" +
			"does not look at history: what is done runs again, as a new execution. With --at it is deferred: a worker runs it when\n" +
			"that time has come.",
		Example: "  " + a.root.Name() + ` execute sync_customer --input '{"customer_id": 42}'` + "\n" +
			"  " + a.root.Name() + " execute sync_customer --async --queue low\n" +
			"  " + a.root.Name() + " execute send_reminder --at 36h --dedupe customer-42",
		Args: takes("NAME"),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	f.StringVar(&c.input, "input", "", "input as JSON; - reads it from stdin")
	f.BoolVar(&c.sync, "sync", false, "run it here, also if it is asynchronous")
	f.BoolVar(&c.async, "async", false, "queue it for a worker")
	f.BoolVar(&c.noWait, "no-wait", false, "fail at once when a limit or a key puts it off")
	f.StringVar(&c.queue, "queue", "", "the queue to wait in")
	f.Var(&c.at, "at", "defer it until then: a time, or in how long (2h, 7d)")
	f.StringVar(&c.key, "dedupe", "", "queue it only if none of this key is")
	return cmd
}

// executed is the JSON document of execute, and what retry shares of it.
type executed struct {
	ID        string        `json:"id,omitempty"`
	Name      string        `json:"name"`
	State     storage.State `json:"state"`
	Duplicate bool          `json:"duplicate,omitempty"`
}

func (c *executeCommand) body(ctx context.Context, s *session) error {
	if c.sync && c.async {
		return usagef("--sync and --async exclude each other: give one of them")
	}
	if err := c.checkLater(); err != nil {
		return err
	}
	input, err := c.read(s.in)
	if err != nil {
		return err
	}
	name := s.args[0]
	op := sequencer.Named(name, input)
	switch {
	case c.queue != "" && c.async:
		op = sequencer.With(op, sequencer.OnQueue(c.queue))
	case c.queue != "":
		s.sayf("warning: --queue without --async has no effect")
	}
	if c.noWait {
		op = sequencer.With(op, sequencer.NoWait())
	}
	if c.key != "" {
		op = sequencer.With(op, sequencer.DedupeKey(c.key))
	}
	if err := s.check(ctx, []sequencer.Task{{Kind: storage.Ordered, Name: name}}); err != nil {
		return err
	}
	mode := map[bool]string{true: ", synchronously"}[c.sync] + map[bool]string{true: ", on a queue"}[c.async]
	s.sayf("executing %s%s", name, mode)

	w := &witness{result: executed{Name: name}}
	d := newDisplay(s.ui)
	ctx = sequencer.WithObserver(sequencer.WithObserver(ctx, d.observe), w.observe)
	err = c.call(ctx, s.Seq, op)
	if isMissingLedger(err) { // a first execution creates it, as a first run does
		if err = s.Seq.Setup(ctx); err == nil {
			err = c.call(ctx, s.Seq, op)
		}
	}
	d.close()
	return w.conclude(ctx, s, err)
}

// checkLater settles what --at, --no-wait and --dedupe go with. What is deferred is queued.
func (c *executeCommand) checkLater() error {
	switch {
	case !c.at.at.IsZero() && c.sync:
		return usagef("--at and --sync exclude each other: give one of them")
	case !c.at.at.IsZero():
		c.async = true
	}
	switch {
	case c.noWait && c.async:
		return usagef("--no-wait is for what runs here: what is queued waits for its turn")
	case c.key != "" && !c.async:
		return usagef("--dedupe is for what is queued: give --async or --at with it")
	}
	return nil
}

func (c *executeCommand) call(ctx context.Context, seq *sequencer.Sequencer, op sequencer.Operation) error {
	switch {
	case !c.at.at.IsZero():
		_, err := seq.Defer(ctx, op, c.at.at)
		return err
	case c.async:
		_, err := seq.Dispatch(ctx, op)
		return err
	case c.sync:
		return seq.ExecuteSync(ctx, op)
	}
	return seq.Execute(ctx, op)
}

func (c *executeCommand) read(in io.Reader) (any, error) {
	text := []byte(c.input)
	if c.input == "-" {
		var err error
		if text, err = io.ReadAll(in); err != nil {
			return nil, err
		}
	}
	if len(text) == 0 {
		return nil, nil //nolint:nilnil // no input is none
	}
	if !json.Valid(text) {
		return nil, usagef("--input is not JSON%s", where(text)) // without quoting it: it may be secret
	}
	return json.RawMessage(text), nil
}

// where says at which character a text stops being JSON.
func where(text []byte) string {
	var syntax *json.SyntaxError
	var v any
	if errors.As(json.Unmarshal(text, &v), &syntax) {
		return fmt.Sprintf(": it goes wrong at character %d", syntax.Offset)
	}
	return ""
}

// witness keeps what the events said of the one execution. A skip is no failure
// of the command.
type witness struct {
	mu     sync.Mutex
	result executed
}

func (w *witness) observe(_ context.Context, e sequencer.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.ID == "" {
		return
	}
	w.result.ID, w.result.State = e.ID, e.State
	w.result.Duplicate = e.Kind == sequencer.EventDuplicate
}

func (w *witness) conclude(ctx context.Context, s *session, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if failed, ok := errors.AsType[*sequencer.ExecutionError](err); ok {
		w.result.ID, w.result.State = failed.ID, failed.State
		if failed.State == storage.Skipped {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	if w.result.State == storage.Pending && !w.result.Duplicate {
		s.idle(ctx, w.result.ID)
	}
	if s.json {
		s.document(w.result)
		return nil
	}
	switch {
	case w.result.Duplicate:
		s.printf("%s is in flight already.", w.result.Name)
	case w.result.State == storage.Pending:
		s.printf("Queued as %s.", w.result.ID)
	}
	return nil
}

// idle says what keeps something that was queued from being run soon.
func (s *session) idle(ctx context.Context, id string) {
	answer, err := s.Seq.Why(ctx, id)
	if err != nil {
		return // it is queued; this was only about what comes next
	}
	for _, r := range answer.Reasons {
		switch r.Kind {
		case sequencer.ReasonQueuePaused, sequencer.ReasonOperationPaused, sequencer.ReasonUnknown, sequencer.ReasonBuild:
			s.sayf("note: %s", r.Text)
		case sequencer.ReasonNoWorker:
			s.sayf("note: %s: %s work --queue %s", r.Text, s.name, answer.Execution.Queue)
		default:
		}
	}
}
