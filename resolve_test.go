package sequencer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type fetchOp struct {
	ID   int    `json:"id"`
	Note string `json:"note,omitempty"`
}

func (*fetchOp) Handle(context.Context) error { return nil }

func fetchRegistry(t *testing.T) (*Registry, func(fetchOp) Operation) {
	t.Helper()
	reg := NewRegistry()
	Register(reg, "fetch", func() *fetchOp { return &fetchOp{Note: "default"} }, FormerNames("load"))
	Register(reg, "twice_a", Make[pointerOp])
	Register(reg, "twice_b", Make[pointerOp])
	fn := RegisterFuncOf(reg, "fn", func(context.Context, fetchOp) error { return nil })
	RegisterFunc(reg, "bare", func(context.Context) error { return nil })
	if err := reg.Err(); err != nil {
		t.Fatal(err)
	}
	return reg, fn
}

func TestAnOperationIsFoundThroughWhateverWrapsIt(t *testing.T) {
	t.Parallel()
	reg, fn := fetchRegistry(t)
	for _, c := range []struct {
		rule string
		op   Operation
		name string
		want fetchOp
	}{
		{"a pointer", &fetchOp{ID: 1}, "fetch", fetchOp{ID: 1}},
		{"With", With(&fetchOp{ID: 1}, OnQueue("q")), "fetch", fetchOp{ID: 1}},
		{"Named with an operation", Named("fetch", &fetchOp{ID: 1}), "fetch", fetchOp{ID: 1}},
		{"Named with a value of the type", Named("fetch", fetchOp{ID: 1}), "fetch", fetchOp{ID: 1}},
		{"Named with other code's type", Named("fetch", map[string]any{"id": 1}), "fetch", fetchOp{ID: 1, Note: "default"}},
		{"Named without input", Named("fetch", nil), "fetch", fetchOp{Note: "default"}},
		{"Named by a former name", Named(" load ", nil), "fetch", fetchOp{Note: "default"}},
		{"With around Named around With", With(Named("fetch", With(&fetchOp{ID: 1}))), "fetch", fetchOp{ID: 1}},
		{"a function", fn(fetchOp{ID: 1}), "fn", fetchOp{ID: 1}},
		{"Named with a function's value", Named("fn", fn(fetchOp{ID: 1})), "fn", fetchOp{ID: 1}},
		{"Named with a function's input", Named("fn", fetchOp{ID: 1}), "fn", fetchOp{ID: 1}},
		{"Named with the JSON of a function's input", Named("fn", map[string]int{"id": 1}), "fn", fetchOp{ID: 1}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			r, op, _, err := reg.resolve(c.op)
			if err != nil {
				t.Fatal(err)
			}
			if r.name != c.name {
				t.Errorf("found %s, want %s", r.name, c.name)
			}
			if diff := cmp.Diff(&c.want, r.subject(op)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatCannotBeResolvedSaysWhatToDo(t *testing.T) {
	t.Parallel()
	reg, fn := fetchRegistry(t)
	other := NewRegistry()
	foreign := RegisterFuncOf(other, "fn", func(context.Context, int) error { return nil })
	alien := RegisterFunc(other, "fetch", func(context.Context) error { return nil })
	pointerIn := RegisterFuncOf(reg, "ptr", func(context.Context, *fetchOp) error { return nil })
	for _, c := range []struct {
		rule    string
		op      Operation
		unknown bool
		want    string
	}{
		{"no operation", nil, false, "a nil operation was handed over: use a value"},
		{"With around nothing", With(nil), false, "a nil operation"},
		{"a typed nil", (*fetchOp)(nil), false, "a nil *sequencer.fetchOp was handed over"},
		{"a nil input of a function", pointerIn(nil), false, "dispatch ptr with a nil input: hand over a value"},
		{"a type nobody registered", plainOp{}, true, "operation sequencer.plainOp is not registered: register its type under a name"},
		{"a type with two names", &pointerOp{}, true, "is registered as twice_a and twice_b: say which with sequencer.Named"},
		{"a name nobody registered", Named("nope", nil), true, `operation "nope" is not registered: register it`},
		{"a name that nearly fits", Named("FETCHES", nil), true, `operation "FETCHES" is not registered: do you mean fetch?`},
		{"a misspelled field", Named("fetch", map[string]any{"idd": 1}), false, `fetch: input: json: unknown field "idd"`},
		{"a field of another type", Named("fetch", map[string]any{"id": "1"}), false, "fetch: input field id: a JSON string does not fit int"},
		{"another operation", Named("fetch", plainOp{}), false, "fetch: the input is an operation of type sequencer.plainOp: hand over one of type sequencer.fetchOp"},
		{"a function's value for an operation", Named("fetch", fn(fetchOp{})), false, "fetch is registered as sequencer.fetchOp, not as a function"},
		{"input for a function without", Named("bare", 1), false, "bare: it takes no input: pass nil"},
		{"input that is no JSON", Named("fetch", make(chan int)), false, "fetch: encode the input: json: unsupported type: chan int"},
		{"a function of another registry", foreign(1), false, "fn is registered with another input"},
		{"a function whose name is a type's here", alien, false, "fetch is registered as sequencer.fetchOp, not as a function: it belongs to another registry"},
		{"a bad option", With(&fetchOp{}, Priority(9)), false, "fetch: priority 9 does not exist"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			_, op, _, err := reg.resolve(c.op)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v, want %q", op, err, c.want)
			}
			if got := errors.Is(err, ErrOperationNotFound); got != c.unknown {
				t.Errorf("errors.Is(err, ErrOperationNotFound) is %v, want %v", got, c.unknown)
			}
		})
	}
}

func TestTheOutermostOptionWins(t *testing.T) {
	t.Parallel()
	reg, _ := fetchRegistry(t)
	for _, op := range []Operation{
		With(With(&fetchOp{}, OnQueue("inner"), Tagged("i"), Tries(1)), OnQueue("outer"), Tagged("o")),
		With(Named("fetch", With(&fetchOp{}, OnQueue("inner"), Tagged("i"), Tries(1))), OnQueue("outer"), Tagged("o")),
	} {
		_, _, q, err := reg.resolve(op)
		if err != nil {
			t.Fatal(err)
		}
		if q.queue != "outer" || *q.tries != 1 || !cmp.Equal(q.tags, []string{"i", "o"}) {
			t.Errorf("queue %q, tries %d, tags %q, want outer, 1 and both tags", q.queue, *q.tries, q.tags)
		}
	}
}

func TestStandInsDoNotRunByThemselves(t *testing.T) {
	t.Parallel()
	_, fn := fetchRegistry(t)
	for _, op := range []Operation{Named("fetch", nil), With(&fetchOp{}), fn(fetchOp{}), &funcOperation{name: "fetch"}} {
		handle := op.Handle
		if err := handle(t.Context()); err == nil || !strings.Contains(err.Error(), "dispatch or execute it with a Sequencer") {
			t.Errorf("%T: %v", op, err)
		}
	}
}

func TestTheInputOfAFunctionCanBeRead(t *testing.T) {
	t.Parallel()
	_, fn := fetchRegistry(t)
	reader, ok := fn(fetchOp{ID: 3}).(interface{ Input() any })
	if !ok {
		t.Fatal("a function's value does not show its input")
	}
	if diff := cmp.Diff(&fetchOp{ID: 3}, reader.Input()); diff != "" {
		t.Error(diff)
	}
}

func TestDependenciesSayOfWhichKindTheyAre(t *testing.T) {
	t.Parallel()
	if got := Op("a").String() + ", " + Migration("a").String(); got != "operation a, migration a" {
		t.Errorf("S9.3 got %q", got)
	}
	if Op("a") == Migration("a") {
		t.Error("S9.3 an operation equals the migration of its name")
	}
}

func TestEachKeepsOrderAndValues(t *testing.T) {
	t.Parallel()
	a, b := &fetchOp{ID: 1}, &fetchOp{ID: 2}
	if got := Each([]*fetchOp{a, b}); len(got) != 2 || got[0] != a || got[1] != b {
		t.Errorf("got %v", got)
	}
}

func TestARequestHoldsWhatTheOptionsSay(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		rule string
		opts []DispatchOption
		want func(*request) bool
	}{
		{"nothing", nil, func(q *request) bool { return q.priority == 0 && q.tries == nil && q.retryFor == nil && !q.scheduled }},
		{"the last value wins", []DispatchOption{Tries(1), Tries(2)}, func(q *request) bool { return *q.tries == 2 }},
		{"a deadline taken away", []DispatchOption{RetryFor(0)}, func(q *request) bool { return *q.retryFor == 0 }},
		{"At after Delay", []DispatchOption{Delay(time.Hour), At(at)}, func(q *request) bool { return q.delay == 0 && q.at.Equal(at) && q.scheduled }},
		{"Delay after At", []DispatchOption{At(at), Delay(time.Hour)}, func(q *request) bool { return q.delay == time.Hour && q.at.IsZero() && q.scheduled }},
		{"now, whatever ExecuteAt says", []DispatchOption{Delay(0)}, func(q *request) bool { return q.scheduled }},
		{"level and connection", []DispatchOption{Priority(4), OnConnection("redis")}, func(q *request) bool { return q.priority == 4 && q.connection == "redis" }},
		{"spaces around names", []DispatchOption{OnQueue(" q "), Tagged("t ")}, func(q *request) bool { return q.queue == "q" && q.tags[0] == "t" }},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			q := newRequest(c.opts)
			if q.err != nil || !c.want(q) {
				t.Errorf("got %+v", q)
			}
		})
	}
}

func TestABadDispatchOptionIsAnError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		opt  DispatchOption
		want string
	}{
		{Tries(-1), "Tries is -1: use 1 or more"},
		{OnQueue(""), "the queue is empty"},
		{OnQueue("a b"), `queue "a b" contains`},
		{Tagged("a b"), `tag "a b" contains`},
		{RetryFor(-1), "RetryFor is -1ns: use zero"},
		{Delay(-1), "a delay of -1ns is negative: use zero"},
		{Priority(0), "priority 0 does not exist: use 1 (served first) to 4, the default is 2"},
		{Priority(5), "priority 5 does not exist"},
		{OnConnection(""), "the connection is empty"},
		{nil, "a nil option: leave it out"},
	} {
		q := newRequest([]DispatchOption{c.opt, Priority(1)})
		if q.err == nil || !strings.Contains(q.err.Error(), c.want) {
			t.Errorf("got %v, want %q", q.err, c.want)
		}
	}
}
