package scaffold

import (
	"fmt"
	"strconv"
	"strings"
)

// Ability is something an operation can declare.
type Ability struct {
	Flag  string
	About string

	marker  string   // embedded type
	imports []string // beside context and sequencer
	code    string   // methods; $T is the type
	sql     string   // header line of an SQL file, "" = only for Go
}

// Abilities in the order they are written. None is changed while the program runs.
var Abilities = []Ability{
	{Flag: "async", About: "runs beside the line of a run", marker: "Async", sql: "async"},
	{Flag: "encrypted", About: "its input is sealed in the store", marker: "Encrypted"},
	{Flag: "idempotent", About: "may be run again after its process died", marker: "Idempotent", sql: "idempotent"},
	{
		Flag: "transaction", About: "runs in the ledger's transaction, or not at all", marker: "TxRequire",
		imports: []string{"database/sql"}, sql: "transaction require",
	},
	{Flag: "retryable", About: "is tried several times", imports: []string{"time"}, sql: "tries 3\nbackoff 10s, 30s, 1m", code: `
// Tries counts the first attempt too.
func (o *$T) Tries() int { return 3 }

// Backoff is the wait before each retry; the last one repeats.
func (o *$T) Backoff() []time.Duration {
	return []time.Duration{10 * time.Second, 30 * time.Second, time.Minute}
}
`},
	{Flag: "conditional", About: "decides when its turn comes whether to run", code: `
// ShouldRun is asked right before Handle; false skips the operation.
func (o *$T) ShouldRun(ctx context.Context) (bool, error) {
	return true, nil
}
`},
	{Flag: "scheduled", About: "waits for a point in time", imports: []string{"time"}, code: `
// ExecuteAt is when it may run; the zero time means now.
func (o *$T) ExecuteAt() time.Time { return time.Time{} }
`},
	{Flag: "dependencies", About: "waits for other operations or migrations", sql: "# depends migration:NAME, operation:NAME", code: `
// DependsOn lists what must be done first: sequencer.Op(name), sequencer.Migration(name).
func (o *$T) DependsOn() []sequencer.Dependency {
	return []sequencer.Dependency{}
}
`},
	{Flag: "middleware", About: "is wrapped by middleware", code: `
// Middleware wraps each attempt, the first entry outermost.
func (o *$T) Middleware() []sequencer.Middleware {
	return []sequencer.Middleware{}
}
`},
	{Flag: "unique", About: "is queued once per key", imports: []string{"time"}, code: `
// UniqueID is the key of which one execution may be in flight; "" means one overall.
func (o *$T) UniqueID() string { return "" }

// UniqueFor frees the key of one that still waits; zero means never.
func (o *$T) UniqueFor() time.Duration { return 0 }
`},
	{Flag: "hooks", About: "has code before and after", code: `
// Before runs ahead of each attempt.
func (o *$T) Before(ctx context.Context) error { return nil }

// After runs once, when the work is done and durable.
func (o *$T) After(ctx context.Context) error { return nil }

// Failed runs once, when the failure is final.
func (o *$T) Failed(ctx context.Context, cause error) error { return nil }
`},
	{Flag: "rollback", About: "can be undone", sql: "rollback $R", code: `
// Rollback undoes what Handle did.
func (o *$T) Rollback(ctx context.Context) error {
	return nil
}
`},
}

// settings are the abilities that flags with values ask for.
func (o *Options) settings() []Ability {
	var list []Ability
	if len(o.Tags) > 0 {
		quoted := make([]string, len(o.Tags))
		for i, tag := range o.Tags {
			quoted[i] = strconv.Quote(tag)
		}
		list = append(list, Ability{sql: "tags " + strings.Join(o.Tags, ", "), code: fmt.Sprintf(`
// Tags label it for filters and logs.
func (o *$T) Tags() []string { return []string{%s} }
`, strings.Join(quoted, ", "))})
	}
	if o.Queue != "" {
		list = append(list, Ability{sql: "queue " + o.Queue, code: fmt.Sprintf(`
// Queue is where it waits for a worker.
func (o *$T) Queue() string { return %q }
`, o.Queue)})
	}
	if o.Timeout > 0 {
		list = append(list, Ability{sql: "timeout " + o.Timeout.String(), imports: []string{"time"}, code: fmt.Sprintf(`
// Timeout is how long one attempt may take.
func (o *$T) Timeout() time.Duration { return %d * time.Millisecond } // %s

// FailOnTimeout makes a timeout final.
func (o *$T) FailOnTimeout() bool { return false }
`, max(o.Timeout.Milliseconds(), 1), o.Timeout)})
	}
	return list
}

// chosen lists what was asked for.
func (o *Options) chosen() []Ability {
	var list []Ability
	for _, a := range Abilities {
		if o.has(a.Flag) {
			list = append(list, a)
		}
	}
	return append(list, o.settings()...)
}
