package sequencer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"runtime/debug"
	"time"

	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
)

// Defaults of Config.
const (
	DefaultQueue         = "default"
	DefaultMaxInput      = 1 << 20
	DefaultLease         = 30 * time.Second
	DefaultShutdownGrace = 25 * time.Second
	DefaultTimeoutGrace  = 5 * time.Second
	DefaultPoll          = 250 * time.Millisecond
	DefaultWaitLock      = 60 * time.Second
	DefaultSlots         = 4
	// MaxCarried bounds what Config.Carry answers, in bytes.
	MaxCarried = 512
)

// OutOfOrder says what a run does with something older than what is applied.
type OutOfOrder string

const (
	OutOfOrderWarn   OutOfOrder = "warn"   // run it, and say so; the default
	OutOfOrderRefuse OutOfOrder = "refuse" // run nothing: for CI
)

// Config is what lives as long as a Sequencer. Its zero value works.
type Config struct {
	// Connections are stores beyond "default", the one given to New.
	Connections map[string]storage.Store
	// Migrations is where schema migrations come from; nil = none.
	Migrations migration.Source
	// Environment is compared with what operations declare (S8.4); default
	// SEQUENCER_ENV, else "production".
	Environment string
	// Guards are asked in order before anything is executed or rolled back.
	Guards []Guard
	// MayApprove is asked before an approval is answered, by Approve or Reject, with the
	// actor that the ledger would show; its error refuses. Nil lets everybody. It binds who
	// comes through this Sequencer: whoever can write to the ledger can answer without it.
	MayApprove func(ctx context.Context, actor string, a Approval) error
	// Limiters are what attempts share across machines, by the names that
	// middleware.RateLimited knows them by.
	Limiters map[string]Limiter
	// Middleware wraps every operation's own, first = outermost.
	Middleware []Middleware
	// Sealer encrypts what operations marked Encrypted keep in the ledger; New refuses
	// those without one. Package seal has one.
	Sealer Sealer
	// Observers hear every event.
	Observers []Observer
	// Carry, when set, is asked at dispatch what an execution is to take along from there to
	// its attempts ([Attempt.Carried]), such as the identity of a trace: at most MaxCarried
	// bytes of UTF-8 text, which stand in the ledger in clear; "" = nothing.
	Carry func(ctx context.Context) string
	// Recorder, when set, receives operations instead of the store: nothing runs,
	// nothing is written. Package sequencertest has one.
	Recorder Recorder
	// Orchestrator arranges runs; default Sequential().
	Orchestrator Orchestrator
	// OutOfOrder is the policy for late arrivals; default OutOfOrderWarn.
	OutOfOrder OutOfOrder
	// Logger takes all log lines; default slog.Default().
	Logger *slog.Logger
	// Actor is who acts, for the ledger and the audit log; default SEQUENCER_ACTOR,
	// else user@host.
	Actor string
	// Build orders builds for MinBuild; default the VCS time of the binary in Unix
	// seconds, 0 = unknown, which never runs work that asks for one.
	Build int64
	// Queue is where operations go that name none; default DefaultQueue.
	Queue string
	// Tries, Backoff and Timeout are the policy of operations that declare none.
	// They are frozen into the row at dispatch. Defaults: one attempt, no delay, no
	// timeout.
	Tries   int
	Backoff []time.Duration
	Timeout time.Duration
	// MaxInput bounds encoded input, checkpoints and results, in bytes; default
	// DefaultMaxInput, at most storage.MaxInput.
	MaxInput int
	// Lease is how long a silent worker is trusted; default DefaultLease. It is
	// renewed every third of it. Stores that see death directly ignore it.
	Lease time.Duration
	// ShutdownGrace is how long running attempts may go on once the context ends;
	// default DefaultShutdownGrace. Then they are cancelled with ErrShutdown.
	ShutdownGrace time.Duration
	// TimeoutGrace is how long a cancelled handler may take to return before it is
	// abandoned; default DefaultTimeoutGrace.
	TimeoutGrace time.Duration
	// WatchedTags have statistics of their own, by operation and ending: see TagStats.
	// Tags are not watched unless they stand here, because a tag made from input may have
	// any number of values; at most MaxWatchedTags. Every process on the ledger should
	// have the same.
	WatchedTags []string
	// Retention is how long history is kept; workers delete what is older.
	Retention Retention
	// Poll is the longest an idle worker sleeps between looks; default DefaultPoll.
	Poll time.Duration
	// DisableErrorRecords keeps attempts' errors out of the ledger; they are still
	// logged and the state is still failed (S30.2). How an operation ended that somebody had
	// to approve is kept: it tells whether the approval has served.
	DisableErrorRecords bool
	// Redact, when set, is applied to error text before it is stored or logged.
	Redact func(string) string
}

// Recorder receives what would have been executed or queued, in order and as it was
// handed over. What its environment or its condition would skip is not recorded
// (S33.5): the condition is asked of a fresh value with the same input, and one that
// fails is none that says no. A Recorder that has the method RecordsAll() bool, and
// answers true, gets these too. Methods may be called concurrently.
type Recorder interface {
	Record(name string, op Operation)
}

// normalize fills defaults in and returns every problem.
func (c *Config) normalize() error {
	if c.Environment == "" {
		c.Environment = cmp.Or(os.Getenv("SEQUENCER_ENV"), "production")
	}
	if c.Actor == "" {
		c.Actor = cmp.Or(os.Getenv("SEQUENCER_ACTOR"), defaultActor())
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Orchestrator == nil {
		c.Orchestrator = Sequential()
	}
	c.OutOfOrder = cmp.Or(c.OutOfOrder, OutOfOrderWarn)
	c.Queue = cmp.Or(c.Queue, DefaultQueue)
	c.Build = cmp.Or(c.Build, vcsTime())
	c.MaxInput = cmp.Or(c.MaxInput, DefaultMaxInput)
	c.Lease = cmp.Or(c.Lease, DefaultLease)
	c.ShutdownGrace = cmp.Or(c.ShutdownGrace, DefaultShutdownGrace)
	c.TimeoutGrace = cmp.Or(c.TimeoutGrace, DefaultTimeoutGrace)
	c.Poll = cmp.Or(c.Poll, DefaultPoll)
	c.Retention = c.Retention.normal()

	var problems []error
	bad := func(field string, value any, want string) {
		problems = append(problems, fmt.Errorf("config %s = %v: want %s", field, value, want))
	}
	if c.OutOfOrder != OutOfOrderWarn && c.OutOfOrder != OutOfOrderRefuse {
		bad("OutOfOrder", c.OutOfOrder, `"warn" or "refuse"`)
	}
	if c.MaxInput < 0 || c.MaxInput > storage.MaxInput {
		bad("MaxInput", c.MaxInput, fmt.Sprintf("1 to %d bytes", storage.MaxInput))
	}
	if c.Tries < 0 {
		bad("Tries", c.Tries, "0 (one attempt) or more")
	}
	for field, d := range map[string]time.Duration{
		"Lease": c.Lease, "ShutdownGrace": c.ShutdownGrace, "TimeoutGrace": c.TimeoutGrace, "Poll": c.Poll, "Timeout": c.Timeout,
	} {
		if d < 0 {
			bad(field, d, "a duration that is not negative")
		}
	}
	for _, d := range c.Backoff {
		if d < 0 {
			bad("Backoff", d, "durations that are not negative")
		}
	}
	for field, d := range map[string]time.Duration{
		"Retention.Completed": c.Retention.Completed, "Retention.Failed": c.Retention.Failed, "Retention.Others": c.Retention.Others,
	} {
		if d < 0 {
			bad(field, d, "a duration, or KeepForever")
		}
	}
	for name, store := range c.Connections {
		if err := checkIdentifier("connection", name); err != nil {
			problems = append(problems, fmt.Errorf("config Connections: %w", err))
		} else if name == DefaultConnection {
			bad("Connections["+name+"]", "a store", "another name: "+DefaultConnection+" is the store given to New")
		}
		if store == nil {
			bad("Connections["+name+"]", "nil", "a store")
		}
	}
	problems = append(problems, c.checkLimiters(), c.checkSealer(), c.checkWatched())
	for i, g := range c.Guards {
		if g == nil {
			bad(fmt.Sprintf("Guards[%d]", i), "nil", "a guard")
		}
	}
	return errors.Join(problems...)
}

func defaultActor() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, _ := os.Hostname()
	return name + "@" + cmp.Or(host, "unknown")
}

// vcsTime is the commit time the Go toolchain stamped into the binary, 0 if none.
func vcsTime() int64 {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return 0
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				return t.Unix()
			}
		}
	}
	return 0
}
