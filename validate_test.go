package sequencer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// answeringOp has the abilities that answer without a context, as functions, so that
// a case says only what it is about. Nil ones answer something harmless.
type answeringOp struct {
	Text    string `json:"text"`
	When    time.Time
	tries   func(*answeringOp) int
	backoff func(*answeringOp) []time.Duration
	until   func(*answeringOp) time.Time
	timeout func(*answeringOp) time.Duration
	errors  func(*answeringOp) int
	queue   func(*answeringOp) string
	tags    func(*answeringOp) []string
	keep    func(*answeringOp) time.Duration
	via     func(*answeringOp) string
	deps    func(*answeringOp) []Dependency
	envs    func(*answeringOp) []string
	build   func(*answeringOp) int64
	mw      func(*answeringOp) []Middleware
}

func answerOf[V any](fn func(*answeringOp) V, a *answeringOp, harmless V) V {
	if fn == nil {
		return harmless
	}
	return fn(a)
}

func (a *answeringOp) Handle(context.Context) error { return nil }
func (a *answeringOp) Tries() int                   { return answerOf(a.tries, a, 9) }
func (a *answeringOp) Backoff() []time.Duration     { return answerOf(a.backoff, a, nil) }
func (a *answeringOp) RetryUntil() time.Time        { return answerOf(a.until, a, time.Time{}) }
func (a *answeringOp) Timeout() time.Duration       { return answerOf(a.timeout, a, 0) }
func (a *answeringOp) MaxExceptions() int           { return answerOf(a.errors, a, 1) }
func (a *answeringOp) Queue() string                { return answerOf(a.queue, a, "q") }
func (a *answeringOp) Tags() []string               { return answerOf(a.tags, a, nil) }
func (a *answeringOp) UniqueFor() time.Duration     { return answerOf(a.keep, a, 0) }
func (a *answeringOp) UniqueVia() string            { return answerOf(a.via, a, "") }
func (a *answeringOp) DependsOn() []Dependency      { return answerOf(a.deps, a, nil) }
func (a *answeringOp) Environments() []string       { return answerOf(a.envs, a, nil) }
func (a *answeringOp) MinBuild() int64              { return answerOf(a.build, a, 0) }
func (a *answeringOp) Middleware() []Middleware     { return answerOf(a.mw, a, nil) }

func constantly[V any](v V) func(*answeringOp) V { return func(*answeringOp) V { return v } }

func TestConstantAnswersAreValidatedAtRegistration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule string
		set  answeringOp
		want string // "" is no problem
	}{
		{"Q1.8 negative tries", answeringOp{tries: constantly(-1)}, "Tries is -1: use 1 or more"},
		{"S12.9 no limit and no deadline", answeringOp{tries: constantly(0)}, "Tries is 0, which is no limit, and there is no deadline: declare RetryFor or RetryUntil"},
		{"Q1.8 no limit with a deadline", answeringOp{tries: constantly(0), until: constantly(time.Now().Add(time.Hour))}, ""},
		{"Q1.26 a negative entry of the backoff", answeringOp{backoff: constantly([]time.Duration{1, -1})}, "Backoff entry 2 is -1ns"},
		{"Q1.26 an empty backoff", answeringOp{backoff: constantly([]time.Duration{})}, ""},
		{"Q2.1 a negative timeout", answeringOp{timeout: constantly(-time.Second)}, "Timeout is -1s: use zero"},
		{"Q1.17 no error allowed", answeringOp{errors: constantly(0)}, "MaxExceptions is 0: use 1 or more"},
		{"S1.7 an empty queue name", answeringOp{queue: constantly("")}, "the queue is empty: use letters"},
		{"S1.7 a queue name with a space", answeringOp{queue: constantly("a b")}, `queue "a b" contains ' '`},
		{"S1.7 spaces around a queue name", answeringOp{queue: constantly(" q ")}, ""},
		{"S16.1 an empty tag", answeringOp{tags: constantly([]string{"a", ""})}, "the tag is empty"},
		{"S16.1 a tag outside the alphabet", answeringOp{tags: constantly([]string{"a,b"})}, `tag "a,b" contains ','`},
		{"Q4.4 a negative life of the key", answeringOp{keep: constantly(-time.Minute)}, "UniqueFor is -1m0s"},
		{"S14.6 a key elsewhere needs an end", answeringOp{via: constantly("redis")}, "declare a positive UniqueFor"},
		{"S9.6 a dependency on itself", answeringOp{deps: constantly([]Dependency{Op("x")})}, "DependsOn names the operation itself"},
		{"S2.5 a dependency on itself by a former name", answeringOp{deps: constantly([]Dependency{Op("old")})}, "DependsOn names the operation itself"},
		{"S9.3 a migration of the same name", answeringOp{deps: constantly([]Dependency{Migration("x")})}, ""},
		{"S9.3 a dependency without a name", answeringOp{deps: constantly([]Dependency{Op("")})}, "DependsOn has an entry without a name"},
		{"S9.3 a dependency of no kind", answeringOp{deps: constantly([]Dependency{{Name: "x"}})}, "make it with Op or Migration"},
		{"S8.4 an empty environment", answeringOp{envs: constantly([]string{""})}, "the environment is empty"},
		{"S8.4 no environment at all means nowhere", answeringOp{envs: constantly([]string{})}, ""},
		{"a negative build", answeringOp{build: constantly[int64](-1)}, "MinBuild is -1"},
		{"a nil middleware", answeringOp{mw: constantly([]Middleware{nil})}, "Middleware entry 1 is nil"},

		{"S1.7 an empty tag that comes from the input", answeringOp{tags: func(a *answeringOp) []string { return []string{a.Text} }}, ""},
		{"S1.7 a queue that comes from the input", answeringOp{queue: func(a *answeringOp) string { return a.Text }}, ""},
		{"S1.7 a time that comes from the input", answeringOp{timeout: func(a *answeringOp) time.Duration { return time.Until(a.When) }}, ""},
		{"S1.7 a panic means that it depends on input", answeringOp{tries: func(*answeringOp) int { panic("no input") }}, ""},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			reg := NewRegistry()
			Register(reg, "x", func() *answeringOp { a := c.set; return &a }, FormerNames("old"))
			if c.want == "" {
				if err := reg.Err(); err != nil {
					t.Error(err)
				}
				return
			}
			wantProblems(t, reg, []string{"register x at validate_test.go:", "sequencer.answeringOp: ", c.want})
		})
	}
}

func TestAnswersFromTheInputAreValidatedAtDispatch(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	Register(reg, "x", func() *answeringOp { return &answeringOp{} })
	r, _ := reg.lookup("x")
	bad := &answeringOp{queue: constantly("a b"), tags: func(*answeringOp) []string { panic("nil pointer") }}
	_, err := r.queue(bad)
	if err == nil || err.Error() != `x: queue "a b" contains ' ': use letters, digits and . _ : / -` {
		t.Errorf("queue: %v", err)
	}
	_, err = r.tags(bad)
	if err == nil || !strings.HasPrefix(err.Error(), "x: Tags panics: nil pointer\n") || !strings.Contains(err.Error(), "none of the factory's dependencies") {
		t.Errorf("tags: %v", err)
	}
}

// filledIn answers well only when each of its fields holds something.
type filledIn struct {
	plainOp
	Text  string
	Yes   bool
	Count int
	Size  uint8
	Ratio float64
	When  time.Time
	Next  *filledIn
	List  []string
	Inner struct{ Text string }
	Map   map[string]int
	DB    *int `json:"-"`
}

func (f *filledIn) Tags() []string {
	if f.Text == "" || !f.Yes || f.Count == 0 || f.Size == 0 || f.Ratio == 0 || f.When.IsZero() || f.Next.Text == "" ||
		len(f.List) == 0 || f.Inner.Text == "" || f.DB != nil {
		return []string{""}
	}
	return []string{f.List[0]}
}

func TestTheProbeForInputFillsFieldsOfEveryKind(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	Register(reg, "x", Make[filledIn])
	if err := reg.Err(); err != nil {
		t.Error(err)
	}
}

// lazy panics wherever it is asked without its dependency.
type lazy struct {
	plainOp
	conf *string
}

func (l *lazy) UniqueID() string         { return *l.conf }
func (l *lazy) UniqueFor() time.Duration { return time.Duration(len(*l.conf)) }
func (l *lazy) UniqueVia() string        { return *l.conf }
func (l *lazy) ExecuteAt() time.Time     { return time.Unix(int64(len(*l.conf)), 0) }
func (l *lazy) RetryUntil() time.Time    { return time.Unix(int64(len(*l.conf)), 0) }
func (l *lazy) FailOnTimeout() bool      { return *l.conf == "" }

func TestAPanicOfAnAbilityNamesItAndTheOperation(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	conf := "redis"
	Register(reg, "lazy", func() *lazy { return &lazy{conf: &conf} })
	if err := reg.Err(); err != nil {
		t.Fatal(err)
	}
	r, _ := reg.lookup("lazy")
	op := &lazy{}
	for ability, answer := range map[string]func() error{
		"UniqueID":      func() error { _, _, _, _, err := r.unique(op); return err },
		"UniqueFor":     func() error { _, err := r.uniqueFor(op); return err },
		"UniqueVia":     func() error { _, err := r.uniqueVia(op); return err },
		"ExecuteAt":     func() error { _, err := r.executeAt(op); return err },
		"RetryUntil":    func() error { _, err := r.retryUntil(op); return err },
		"FailOnTimeout": func() error { _, err := r.failOnTimeout(op); return err },
	} {
		if err := answer(); err == nil || !strings.HasPrefix(err.Error(), "lazy: "+ability+" panics: runtime error: invalid memory address") {
			t.Errorf("%s: %v", ability, err)
		}
	}
	if id, keep, via, declared, err := r.unique(&lazy{conf: &conf}); id != conf || keep != 5 || via != conf || !declared || err != nil {
		t.Errorf("control: got %q, %d, %q, %v, %v", id, keep, via, declared, err)
	}
}

func TestALimitThatIsNeverReachedIsAWarning(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	fn := func(context.Context) error { return nil }
	RegisterFunc(reg, "q1.21", fn, Tries(3), MaxExceptions(5))
	RegisterFunc(reg, "reached", fn, Tries(5), MaxExceptions(5))
	RegisterFunc(reg, "unlimited", fn, Tries(0), MaxExceptions(5), RetryFor(time.Hour))
	RegisterFunc(reg, "unset", fn, MaxExceptions(5))
	if err := reg.Err(); err != nil {
		t.Fatal(err)
	}
	got := reg.warnings()
	if len(got) != 1 || !strings.Contains(got[0], "register q1.21 at validate_test.go:") || !strings.Contains(got[0], "MaxExceptions 5 is never reached, because Tries 3") {
		t.Errorf("got %q, want one warning about q1.21", got)
	}
}

func TestTwoSourcesOfOneAnswerAreRefused(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context) error { return nil }
	reg := NewRegistry()
	Register(reg, "clash", Make[pointerOp],
		Tries(1), Backoff(), Timeout(1), FailOnTimeout(), MaxExceptions(1), Use(), Tagged("a"), OnBefore(nothing), OnAfter(nothing),
		OnFailed(func(context.Context, error) error { return nil }), When(func(context.Context) (bool, error) { return true, nil }),
		Undo(nothing), DependsOn(), Environments(), OnQueue("q"), MinBuild(1),
		Estimate(func(context.Context) (int64, error) { return 0, nil }), ApprovedBy("dba"))
	var want [][]string
	for _, pair := range [][2]string{
		{"Tries", "Tries"},
		{"Backoff", "Backoff"},
		{"Timeout", "Timeout"},
		{"FailOnTimeout", "FailOnTimeout"},
		{"MaxExceptions", "MaxExceptions"},
		{"Middleware", "Use"},
		{"Tags", "Tagged"},
		{"Before", "OnBefore"},
		{"After", "OnAfter"},
		{"Failed", "OnFailed"},
		{"ShouldRun", "When"},
		{"Rollback", "Undo"},
		{"DependsOn", "DependsOn"},
		{"Environments", "Environments"},
		{"Queue", "OnQueue"},
		{"MinBuild", "MinBuild"},
		{"Estimate", "Estimate"},
		{"ApprovedBy", "ApprovedBy"},
	} {
		want = append(want, []string{
			"register clash at", "sequencer.pointerOp: method " + pair[0] + " and option " + pair[1] + " say the same: keep one", `NotAbility("` + pair[0] + `")`,
		})
	}
	wantProblems(t, reg, want...)

	reg = NewRegistry()
	Register(reg, "deadline", Make[pointerOp], RetryFor(time.Hour))
	RegisterFunc(reg, "undo", nothing, Undo(nothing), Irreversible())
	RegisterFunc(reg, "twice", nothing, Undo(nothing), Undo(nothing))
	wantProblems(
		t, reg,
		[]string{"register deadline at", "RetryUntil and RetryFor are both declared", `NotAbility("RetryUntil")`},
		[]string{"register undo at", "Irreversible and a rollback exclude one another", "keep one"},
		[]string{"register twice at", "Undo is given twice", "make one function"},
	)
}

func TestOptionsAnswerForAFunction(t *testing.T) {
	t.Parallel()
	before, after, undone := errors.New("before"), errors.New("after"), errors.New("undone")
	reg := NewRegistry()
	op := RegisterFunc(reg, "20240115120000_x", func(context.Context) error { return nil },
		Tries(3), Backoff(time.Second), Timeout(time.Minute), FailOnTimeout(), MaxExceptions(2), Use(MiddlewareFunc(nil)), Use(MiddlewareFunc(nil)),
		Tagged("a"), Tagged("b ", "a"), RetryFor(time.Hour), OnQueue(" high "), MinBuild(7), DependsOn(Op("y")), DependsOn(Migration("z")),
		Environments("dev"), FormerNames("x.php"), When(func(context.Context) (bool, error) { return true, nil }),
		OnBefore(func(context.Context) error { return before }), OnAfter(func(context.Context) error { return after }),
		OnFailed(func(_ context.Context, cause error) error { return cause }), Undo(func(context.Context) error { return undone }))
	if err := reg.Err(); err != nil {
		t.Fatal(err)
	}
	r, op, _, err := reg.resolve(op)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	tries, _, _ := r.tries(op)
	check("tries", tries, 3)
	backoff, _, _ := r.backoff(op)
	check("backoff", backoff, []time.Duration{time.Second})
	timeout, _ := r.timeout(op)
	check("timeout", timeout, time.Minute)
	fail, _ := r.failOnTimeout(op)
	check("failOnTimeout", fail, true)
	limit, _, _ := r.maxExceptions(op)
	check("maxExceptions", limit, 2)
	mw, _ := r.middleware(op)
	check("middleware", len(mw), 2)
	tags, _ := r.tags(op)
	check("tags", tags, []string{"a", "b"})
	retryFor, _ := r.retryFor(op)
	check("retryFor", retryFor, time.Hour)
	queue, _ := r.queue(op)
	check("queue", queue, "high")
	build, _ := r.minBuild(op)
	check("minBuild", build, int64(7))
	deps, _ := r.dependsOn(op)
	check("dependsOn", deps, []Dependency{Op("y"), Migration("z")})
	envs, declared, _ := r.environments(op)
	check("environments", envs, []string{"dev"})
	check("environments are declared", declared, true)
	check("former names", r.former, []string{"x.php"})
	check("before", errors.Is(r.before(op)(t.Context()), before), true)
	check("after", errors.Is(r.after(op)(t.Context()), after), true)
	check("failed", errors.Is(r.failed(op)(t.Context(), before), before), true)
	check("rollback", errors.Is(r.rollback(op)(t.Context()), undone), true)
	run, _ := r.condition(op)(t.Context())
	check("condition", run, true)
}

func TestMethodsAnswerForAnOperation(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	Register(reg, "x", func() pointerOp { return pointerOp{} })
	r, op, _, err := reg.resolve(pointerOp{N: 3})
	if err != nil {
		t.Fatal(err)
	}
	tries, declared, _ := r.tries(op)
	until, _ := r.retryUntil(op)
	id, keep, via, unique, _ := r.unique(op)
	at, _ := r.executeAt(op)
	tags, _ := r.tags(op)
	got := []any{tries, declared, until.Unix(), id, keep, via, unique, at.Unix(), tags, r.failed(op)(t.Context(), nil) == nil, r.before(op)(t.Context()).Error()}
	want := []any{5, true, int64(3), "k", time.Hour, "redis", true, int64(7), []string{"t", "u"}, true, "before"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	Register(reg, "none", Make[plainOp])
	r, op, _, _ = reg.resolve(plainOp{})
	_, t1, _ := r.tries(op)
	_, t2, _ := r.backoff(op)
	_, t3, _ := r.maxExceptions(op)
	_, t4, _ := r.environments(op)
	_, _, _, t5, _ := r.unique(op)
	if t1 || t2 || t3 || t4 || t5 || r.condition(op) != nil || r.before(op) != nil || r.after(op) != nil || r.failed(op) != nil || r.rollback(op) != nil {
		t.Error("an operation that declares nothing has abilities")
	}
}
