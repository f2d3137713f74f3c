package timeline_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/middleware"
	"github.com/gosequencer/sequencer/storage"
)

// fails is a handler that always does.
func fails(_ context.Context, _ *cell, n int) error { return boom(context.Background(), n) }

// failsOnce is a handler that does the first time.
func failsOnce(ctx context.Context, c *cell, n int) error {
	if n > 1 {
		return nil
	}
	return fails(ctx, c, n)
}

// hangs until its context ends.
func hangs(ctx context.Context, _ *cell, _ int) error {
	<-ctx.Done()
	return ctx.Err()
}

// The abilities that have no option are methods of these.
type (
	untilOp  struct{ plain }
	uniqueOp struct{ plain }
	viaOp    struct{ plain }
	startOp  struct {
		sequencer.UniqueUntilStart
		plain
	}
	atOp   struct{ plain }
	undoOp struct{ plain }
)

func (*untilOp) RetryUntil() time.Time    { return time.Now().Add(140 * second) }
func (*untilOp) Backoff() []time.Duration { return []time.Duration{50 * second} }

func (*uniqueOp) UniqueID() string         { return "42" }
func (*uniqueOp) UniqueFor() time.Duration { return 24 * time.Hour }

func (*viaOp) UniqueID() string         { return "42" }
func (*viaOp) UniqueFor() time.Duration { return 24 * time.Hour }
func (*viaOp) UniqueVia() string        { return "keys" }

func (*startOp) UniqueID() string { return "42" }

func (*atOp) ExecuteAt() time.Time { return notBefore }

// notBefore is five minutes after the time of a bubble begins.
var notBefore = time.Date(2000, 1, 1, 0, 5, 0, 0, time.UTC)

func (o *undoOp) Rollback(ctx context.Context) error {
	kept, err := sequencer.ResultOf[string](ctx, "")
	o.c.note("undo " + o.Card + " " + kept)
	return err
}

// notPrivate says that something is for queues that workers serve, and why.
func notPrivate(why string) func(*path) string {
	return func(p *path) string {
		if p.private {
			return why
		}
		return ""
	}
}

func notOrdered(p *path) string {
	if p.ordered {
		return "an operation of runs has its name as key, until it is over"
	}
	return ""
}

// noteEach is a middleware that notes each delivery that passes.
func (c *cell) noteEach() sequencer.RegisterOption {
	return sequencer.Use(sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
		return func(ctx context.Context, a *sequencer.Attempt) error {
			c.note("in")
			err := next(ctx, a)
			c.note("out")
			return err
		}
	}))
}

// hooks note themselves, and how the execution stands in the ledger by then.
func (c *cell) hooks() []sequencer.RegisterOption {
	stands := func(ctx context.Context, what string) error {
		row, err := c.seqs.Store().Executions(ctx, storage.Filter{IDs: []storage.ID{idOf(sequencer.Current(ctx).ID)}})
		if err == nil && len(row) == 1 {
			c.note(what + " " + string(row[0].State))
		}
		return err
	}
	return []sequencer.RegisterOption{
		sequencer.OnBefore(func(ctx context.Context) error { return stands(ctx, "before") }),
		sequencer.OnAfter(func(ctx context.Context) error { return stands(ctx, "after") }),
		sequencer.OnFailed(func(ctx context.Context, cause error) error {
			return errors.Join(c.failed(cause), stands(ctx, "failed"))
		}),
	}
}

func idOf(text string) storage.ID {
	id, err := storage.ParseID(text)
	if err != nil {
		panic(err)
	}
	return id
}

// story are the notes among those, in order.
func (c *cell) story(of ...string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.notes), func(n string) bool {
		first, _, _ := strings.Cut(n, " ")
		return !slices.Contains(of, first) && !slices.Contains(of, n)
	})
}

func (c *cell) wantStory(want []string, of ...string) {
	c.t.Helper()
	if got := c.story(of...); !slices.Equal(got, want) {
		c.t.Errorf("it went %q, want %q", got, want)
	}
}

// deferrals of the execution, at least.
func wantDeferred(least int) func(c *cell, row storage.Execution) {
	return func(c *cell, row storage.Execution) {
		if row.Excused < least {
			c.t.Errorf("%d deliveries cost nothing, want %d at least", row.Excused, least)
		}
	}
}

// later is how long after the first delivery the handler was first entered.
func (c *cell) later() time.Duration {
	first := c.at("delivered")
	starts := c.at("start")
	if len(first) == 0 || len(starts) == 0 {
		return -1
	}
	return starts[0] - first[0]
}

// wantLater fails unless the handler had to wait so long.
func wantLater(wait, slack time.Duration) func(c *cell, row storage.Execution) {
	return func(c *cell, row storage.Execution) {
		wantDeferred(1)(c, row)
		if got := c.later(); got < wait-exact || got > wait+slack+exact {
			c.t.Errorf("the handler was entered %s after the first delivery, want %s, and up to %s later", got, wait, slack)
		}
	}
}

// tried again: where death is seen at once, or else when the lease is over, and a worker
// looks.
var tried = want{starts: []time.Duration{0, 0}, slack: 90 * second, state: storage.Completed, attempts: 2}

var abilities = []*ability{
	{
		name: "nothing", want: completed(0),
		check: func(c *cell, _ storage.Execution) {
			if len(c.around) > 0 && c.around[0] != storage.Completed {
				c.t.Errorf("what it was in is %s", c.around[0])
			}
		},
	},
	{
		name: "a failure", handle: fails, want: failed(0), // Q1.9
		check: func(c *cell, _ storage.Execution) {
			if len(c.around) > 0 && c.around[0] != storage.Failed && c.path.name != "callback" {
				c.t.Errorf("what it was in is %s", c.around[0])
			}
		},
	},
	{
		name: "a panic", handle: func(context.Context, *cell, int) error { panic("boom") }, want: failed(0), // S1.4
		check: func(c *cell, row storage.Execution) {
			if !strings.Contains(row.LastError, "panic: boom") {
				c.t.Errorf("the ledger says %q", row.LastError)
			}
		},
	},
	{
		name: "tries, backoff", asks: "Tries Backoff", handle: fails, // S12.1, S12.2
		declare: []sequencer.RegisterOption{sequencer.Tries(4), sequencer.Backoff(10*second, 20*second)},
		want:    failed(0, 10*second, 30*second, 50*second),
	},
	{
		name: "retryUntil", asks: "RetryUntil", handle: fails, // Q1.11, Q1.13, Q1.14
		op:   declaredBy(func(p plain) *untilOp { return &untilOp{p} }),
		want: failed(0, 50*second, 100*second),
	},
	{
		name: "retryFor", asks: "RetryFor", handle: fails,
		declare: []sequencer.RegisterOption{sequencer.RetryFor(140 * second), sequencer.Backoff(50 * second)},
		want:    failed(0, 50*second, 100*second),
	},
	{
		name: "timeout", asks: "Timeout", handle: hangs, // Q2.4, Q2.18
		declare: []sequencer.RegisterOption{sequencer.Timeout(5 * second), sequencer.Tries(2), sequencer.Backoff(10 * second)},
		want:    failed(0, 15*second),
		check: func(c *cell, row storage.Execution) {
			log, err := c.seqs.Store().Attempts(c.t.Context(), row.ID)
			if err != nil || len(log) != 2 || log[0].Outcome != "timeout" || log[1].Outcome != "timeout" {
				c.t.Errorf("its attempts are %+v, %v", log, err)
			}
		},
	},
	{
		name: "failOnTimeout", asks: "FailOnTimeout", handle: hangs, // S12.13
		declare: []sequencer.RegisterOption{sequencer.Timeout(5 * second), sequencer.FailOnTimeout(), sequencer.Tries(3)},
		want:    failed(0),
	},
	{
		name: "maxExceptions", asks: "MaxExceptions", handle: fails, // Q1.17
		declare: []sequencer.RegisterOption{sequencer.Tries(5), sequencer.MaxExceptions(2), sequencer.Backoff(second)},
		want:    failed(0, second),
	},
	{
		name: "middleware", asks: "Middleware", handle: failsOnce, // S13.1, S13.2
		declare: []sequencer.RegisterOption{sequencer.Tries(2)},
		notes:   func(c *cell) []sequencer.RegisterOption { return []sequencer.RegisterOption{c.noteEach()} },
		want:    want{starts: []time.Duration{0, 0}, state: storage.Completed, attempts: 2, errors: 1},
		check: func(c *cell, _ storage.Execution) {
			c.wantStory([]string{"in", "start", "out", "in", "start", "out"}, "in", "start", "out")
		},
	},
	{
		name:    "rate limit", // S13.5: others have just used it up
		declare: []sequencer.RegisterOption{sequencer.Tries(1), sequencer.Use(middleware.RateLimited("api"))},
		cfg:     sequencer.Config{Limiters: map[string]sequencer.Limiter{"api": sequencer.Limit{N: 1, Per: 10 * time.Minute}}},
		first: func(ctx context.Context, _ *cell) error {
			bucket, err := sequencer.Current(ctx).Limit("api", "")
			if err == nil {
				_, err = bucket.Take(ctx)
			}
			return err
		},
		want: completed(0), check: wantLater(10*time.Minute, 3*second),
	},
	{
		name:    "overlap", // S13.6: another operation holds the key for 25 s
		declare: []sequencer.RegisterOption{sequencer.Tries(1), sequencer.Use(middleware.WithoutOverlapping("account").Shared().ReleaseAfter(10 * second))},
		notes: func(c *cell) []sequencer.RegisterOption {
			sequencer.RegisterFunc(c.reg, "holder", func(context.Context) error {
				close(c.middle)
				time.Sleep(25 * second) // sleep: in a bubble
				return nil
			}, sequencer.Use(middleware.WithoutOverlapping("account").Shared()))
			return nil
		},
		first: func(ctx context.Context, c *cell) error {
			go func() {
				if err := c.seqs.ExecuteSync(context.WithoutCancel(c.t.Context()), named("holder")); err != nil {
					c.t.Error(err)
				}
			}()
			<-c.middle
			return nil
		},
		want: completed(0), check: wantLater(30*second, 0),
	},
	{
		name: "throttle", handle: failsOnce, // S13.7
		declare: []sequencer.RegisterOption{sequencer.Tries(2), sequencer.Use(middleware.ThrottleErrors(1, 10*time.Minute))},
		want:    want{starts: []time.Duration{0, 10 * time.Minute}, slack: 3 * second, state: storage.Completed, attempts: 2, errors: 1},
		check:   wantDeferred(1),
	},
	{
		name: "approval", asks: "ApprovedBy", // A1: it waits for a person, at no cost
		declare: []sequencer.RegisterOption{sequencer.Tries(1), sequencer.RetryFor(5 * second), sequencer.ApprovedBy("dba")},
		want:    completed(0),
		check: func(c *cell, row storage.Execution) {
			wantDeferred(1)(c, row)
			asked, starts := c.of(sequencer.EventApprovalNeeded), c.at("start")
			if len(asked) != 1 || len(starts) != 1 || starts[0] < asked[0]+deliberation || starts[0] > asked[0]+deliberation+10*second+exact {
				c.t.Errorf("asked at %v, begun at %v; want it %s later", asked, starts, deliberation)
			}
		},
	},
	{
		name: "tags", asks: "Tags", want: completed(0), // S16.4
		declare: []sequencer.RegisterOption{sequencer.Tagged("billing", "eu")},
		handle: func(ctx context.Context, c *cell, _ int) error {
			if tags := sequencer.Current(ctx).Tags; !slices.Equal(tags, []string{"billing", "eu"}) {
				c.t.Errorf("the attempt has the tags %q", tags)
			}
			return nil
		},
		check: func(c *cell, row storage.Execution) {
			found, err := c.seqs.Store().Executions(c.t.Context(), storage.Filter{Tag: "billing"})
			if err != nil || len(found) != 1 || found[0].ID != row.ID {
				c.t.Errorf("by its tag one finds %d executions, %v", len(found), err)
			}
		},
	},
	{
		name: "unique", asks: "UniqueID UniqueFor", // S14.1 to S14.4
		op: declaredBy(func(p plain) *uniqueOp { return &uniqueOp{p} }), declare: []sequencer.RegisterOption{sequencer.Tries(2), sequencer.Backoff(time.Minute)},
		handle: func(ctx context.Context, c *cell, n int) error {
			again, err := c.seqs.Dispatch(c.t.Context(), c.op)
			if id := sequencer.Current(ctx).ID; err != nil || !again.Duplicate || again.HolderID != id {
				c.t.Errorf("while it runs a second dispatch is %+v, %v; want a duplicate of %s", again, err, id)
			}
			if err := c.seqs.ExecuteSync(c.t.Context(), c.op); !errors.Is(err, sequencer.ErrDuplicate) {
				c.t.Errorf("while it runs a synchronous call is %v", err)
			}
			return failsOnce(ctx, c, n)
		},
		want: want{starts: []time.Duration{0, time.Minute}, state: storage.Completed, attempts: 2, errors: 1},
		check: func(c *cell, _ storage.Execution) {
			next, err := c.seqs.Dispatch(c.t.Context(), c.op)
			if err != nil || next.Duplicate {
				c.t.Errorf("once it is over a dispatch is %+v, %v", next, err)
			}
		},
	},
	{
		name: "unique elsewhere", asks: "UniqueVia", // Q4.5: two ledgers share the key
		op:      declaredBy(func(p plain) *viaOp { return &viaOp{p} }),
		declare: []sequencer.RegisterOption{sequencer.Tries(2), sequencer.Backoff(time.Minute)},
		handle: func(ctx context.Context, c *cell, n int) error {
			again, err := c.neighbour().Dispatch(c.t.Context(), c.op)
			if id := sequencer.Current(ctx).ID; err != nil || !again.Duplicate || again.HolderID != id {
				c.t.Errorf("while it runs a dispatch in another ledger is %+v, %v; want a duplicate of %s", again, err, id)
			}
			if err := c.seqs.ExecuteSync(c.t.Context(), c.op); !errors.Is(err, sequencer.ErrDuplicate) {
				c.t.Errorf("while it runs a synchronous call is %v", err)
			}
			return failsOnce(ctx, c, n)
		},
		want: want{starts: []time.Duration{0, time.Minute}, state: storage.Completed, attempts: 2, errors: 1},
		check: func(c *cell, _ storage.Execution) {
			next, err := c.neighbour().Dispatch(c.t.Context(), c.op)
			if err != nil || next.Duplicate {
				c.t.Errorf("once it is over a dispatch is %+v, %v", next, err)
			}
		},
		never: notOrdered,
	},
	{
		name: "unique until start", asks: "UniqueUntilStart", // Q4.7
		op:      declaredBy(func(p plain) *startOp { return &startOp{plain: p} }),
		declare: []sequencer.RegisterOption{sequencer.Tries(2), sequencer.Backoff(time.Minute)},
		first: func(ctx context.Context, c *cell) error {
			again, err := c.seqs.Dispatch(c.t.Context(), c.op)
			if id := sequencer.Current(ctx).ID; err != nil || !again.Duplicate || again.HolderID != id {
				c.t.Errorf("before it starts a second dispatch is %+v, %v; want a duplicate of %s", again, err, id)
			}
			return nil
		},
		handle: func(ctx context.Context, c *cell, n int) error {
			if n == 1 {
				if next, err := c.seqs.Dispatch(c.t.Context(), c.op, sequencer.Delay(time.Hour)); err != nil || next.Duplicate {
					c.t.Errorf("once it has started a dispatch is %+v, %v", next, err)
				} else {
					c.next = next.ID
				}
			} else if again, err := c.seqs.Dispatch(c.t.Context(), c.op); err != nil || again.HolderID != c.next {
				c.t.Errorf("its retry took the key from %s: a dispatch is %+v, %v", c.next, again, err)
			} else if err := c.seqs.Cancel(c.t.Context(), c.next, ""); err != nil {
				c.t.Error(err)
			}
			return failsOnce(ctx, c, n)
		},
		want:  want{starts: []time.Duration{0, time.Minute}, state: storage.Completed, attempts: 2, errors: 1},
		never: notOrdered,
	},
	{
		name: "encrypted", asks: "Encrypted", handle: fails, // S15.1, S15.5
		declare: []sequencer.RegisterOption{sequencer.Mark[sequencer.Encrypted]()},
		want:    failed(0),
		check: func(c *cell, row storage.Execution) {
			if bytes.Contains(row.Input, []byte("secret")) {
				c.t.Error("the input can be read in the store")
			}
			if strings.Contains(row.LastError, "boom") {
				c.t.Errorf("the error can be read in the store: %s", row.LastError)
			}
		},
	},
	{
		name: "before, after", asks: "Before After", handle: failsOnce, // S17.1, S17.7
		declare: []sequencer.RegisterOption{sequencer.Tries(2)}, notes: (*cell).hooks,
		want: want{starts: []time.Duration{0, 0}, state: storage.Completed, attempts: 2, errors: 1},
		check: func(c *cell, _ storage.Execution) {
			c.wantStory([]string{"before running", "start", "before running", "start", "after completed"}, "before", "start", "after", "failed")
		},
	},
	{
		name: "failed", asks: "Failed", handle: fails, // S17.7, Q9.10
		declare: []sequencer.RegisterOption{sequencer.Tries(2)}, notes: (*cell).hooks,
		want: failed(0, 0),
		check: func(c *cell, _ storage.Execution) {
			c.wantStory([]string{"before running", "start", "before running", "start", "hook failed", "failed failed"}, "before", "start", "after", "hook", "failed failed")
			if !errors.Is(c.cause, errBoom) || c.cause.Error() != "boom 2" {
				c.t.Errorf("the failed hook was told %v", c.cause)
			}
		},
	},
	{
		name: "condition", asks: "ShouldRun", // S8.1
		declare: []sequencer.RegisterOption{sequencer.When(func(context.Context) (bool, error) { return false, nil })},
		notes:   (*cell).hooks,
		want:    want{state: storage.Skipped, attempts: 1},
		check: func(c *cell, row storage.Execution) {
			c.wantStory(nil, "before", "after", "failed")
			if row.Reason != "condition" {
				c.t.Errorf("it was skipped because of %q", row.Reason)
			}
		},
	},
	{
		name: "environments", asks: "Environments", // S8.4
		declare: []sequencer.RegisterOption{sequencer.Environments("staging")},
		want:    want{state: storage.Skipped, attempts: 1},
		check: func(c *cell, row storage.Execution) {
			if row.Environment != "test" {
				c.t.Errorf("it was skipped in %q: %s", row.Environment, row.Reason)
			}
		},
		never: func(p *path) string {
			if p.name == "schedule" {
				return "a schedule does not fire what is not for the worker's environment"
			}
			return ""
		},
	},
	{
		name: "executeAt", asks: "ExecuteAt", // S12.10: only the first attempt
		op:      declaredBy(func(p plain) *atOp { return &atOp{p} }),
		declare: []sequencer.RegisterOption{sequencer.Tries(2)}, handle: failsOnce,
		want: want{starts: []time.Duration{0, 0}, state: storage.Completed, attempts: 2, errors: 1},
		check: func(c *cell, row storage.Execution) {
			if starts := c.at("start"); len(starts) > 0 && c.began.Add(starts[0]).Before(notBefore) {
				c.t.Errorf("it began after %s", starts[0])
			}
		},
		never: func(p *path) string {
			switch {
			case p.private || p.ordered:
				return "a run leaves it out until then, and a call is here and now"
			case p.delays:
				return "a delay that is asked for takes its place"
			}
			return ""
		},
	},
	{
		name: "queue", asks: "Queue", // S11.2
		declare: []sequencer.RegisterOption{sequencer.OnQueue("special")},
		want:    completed(0),
		check: func(c *cell, row storage.Execution) {
			if row.Queue != "special" {
				c.t.Errorf("it waited in queue %q", row.Queue)
			}
		},
		never: notPrivate("a run and a call serve what is theirs alone"),
	},
	{
		name: "minBuild", asks: "MinBuild", cfg: sequencer.Config{Build: 6},
		declare: []sequencer.RegisterOption{sequencer.MinBuild(7)},
		after: func(c *cell) {
			if n := len(c.at("start")); n > 0 {
				c.t.Errorf("a build that is too old ran it")
			}
			cfg := c.config()
			cfg.Build = 7
			c.seqs = c.seq(c.process(), cfg)
			c.serve(c.seqs)
		},
		want: completed(0),
		on: func(p *path) (want, bool) { // nobody else would ever serve it
			return want{state: storage.Failed, attempts: 1, errors: 1}, p.private
		},
	},
	{
		name: "allowedToFail", asks: "AllowedToFail", handle: fails, want: failed(0), // Q5.24, decisions 27
		declare: []sequencer.RegisterOption{sequencer.Mark[sequencer.AllowedToFail]()},
		check: func(c *cell, _ storage.Execution) {
			if len(c.around) > 0 && c.around[0] != storage.Completed {
				c.t.Errorf("what it was in is %s", c.around[0])
			}
		},
	},
	{
		name: "rollback", asks: "Rollback", // S10
		op:      declaredBy(func(p plain) *undoOp { return &undoOp{p} }),
		handle:  func(ctx context.Context, _ *cell, _ int) error { return sequencer.SetResult(ctx, "ticket 7") },
		declare: []sequencer.RegisterOption{sequencer.Tries(2)},
		want:    want{starts: []time.Duration{0}, state: storage.RolledBack, attempts: 1},
		never: func(p *path) string {
			if !p.ordered {
				return "only what runs do, and chains that say so, is undone"
			}
			return ""
		},
		after: func(c *cell) {
			if _, err := c.seqs.Rollback(c.t.Context(), c.name, sequencer.RollbackOptions{}); err != nil {
				c.t.Error(err)
			}
		},
		check: func(c *cell, _ storage.Execution) {
			c.wantStory([]string{"undo " + card + " ticket 7"}, "undo")
		},
	},
	{
		name: "a lost worker", killed: true, // Q2.16, S6.6
		declare: []sequencer.RegisterOption{sequencer.Mark[sequencer.TxNever]()},
		want:    tried,
		on: func(p *path) (want, bool) {
			w := want{starts: []time.Duration{0}, state: storage.Failed, attempts: 1}
			if p.ordered { // nobody knows how far it came
				w.state = storage.Interrupted
			}
			return w, p.private || p.ordered
		},
	},
	{
		name: "idempotent", asks: "Idempotent", killed: true,
		declare: []sequencer.RegisterOption{sequencer.Mark[sequencer.Idempotent]()},
		want:    tried,
		on: func(p *path) (want, bool) {
			if p.ordered && p.private { // as another execution, offered by the next run
				w := tried
				w.attempts = 1
				return w, true
			}
			return want{starts: []time.Duration{0}, state: storage.Failed, attempts: 1}, p.private // whoever called is gone
		},
	},
	{
		name: "txRequire", asks: "TxRequire", handle: func(ctx context.Context, c *cell, _ int) error {
			_, err := sequencer.Tx[*sql.Tx](ctx)
			return err
		},
		declare: []sequencer.RegisterOption{sequencer.Mark[sequencer.TxRequire]()},
		want:    completed(0), sql: true,
	},
	{
		name: "txNever", asks: "TxNever", handle: func(ctx context.Context, c *cell, _ int) error {
			if _, err := sequencer.Tx[*sql.Tx](ctx); !errors.Is(err, sequencer.ErrNoTx) {
				c.t.Errorf("Tx answers %v", err)
			}
			return nil
		},
		declare: []sequencer.RegisterOption{sequencer.Mark[sequencer.TxNever]()},
		want:    completed(0),
	},
	{
		name: "async", asks: "Async", want: completed(0), // Q10.2
		declare: []sequencer.RegisterOption{sequencer.Mark[sequencer.Async]()},
	},
	{
		name: "dependsOn", asks: "DependsOn", want: completed(0), // S9.1: it has a later timestamp
		declare: []sequencer.RegisterOption{sequencer.DependsOn(sequencer.Op("20240215120000_first"))},
		notes: func(c *cell) []sequencer.RegisterOption {
			c.helper("20240215120000_first", func(context.Context) error { c.note("dependency"); return nil })
			return nil
		},
		check: func(c *cell, _ storage.Execution) {
			c.wantStory([]string{"dependency", "start"}, "dependency", "start")
		},
		never: func(p *path) string {
			if !p.ordered {
				return "it is a run that puts work in order"
			}
			return ""
		},
	},
}
