package sequencer

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// plainOp is an operation that declares nothing; embedded by the others for Handle.
type plainOp struct{}

func (plainOp) Handle(context.Context) error { return nil }

func registryProblems(reg *Registry) []string {
	var list []string
	for _, err := range reg.problems {
		list = append(list, err.Error())
	}
	return list
}

// wantProblems compares problems with what each must contain, in order.
func wantProblems(t *testing.T, reg *Registry, want ...[]string) {
	t.Helper()
	got := registryProblems(reg)
	if len(got) != len(want) {
		t.Fatalf("got %d problems, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		for _, part := range want[i] {
			if !strings.Contains(got[i], part) {
				t.Errorf("problem %d lacks %q:\n%s", i+1, part, got[i])
			}
		}
	}
}

type TagBase struct{}

func (TagBase) Tags() []string { return []string{"base"} }

type OtherTagBase struct{}

func (OtherTagBase) Tags() []string { return []string{"other"} }

type wrongTries struct{}

func (wrongTries) Tries() string { return "3" }

type (
	missResult   struct{ plainOp }
	missVariadic struct{ plainOp }
	missReceiver struct{ plainOp }
	missPromoted struct {
		plainOp
		wrongTries
	}
	missTwoBases struct {
		plainOp
		TagBase
		OtherTagBase
	}
	missField struct {
		plainOp
		TagBase
		LabelsBase
	}
	missSpelling  struct{ plainOp }
	missMarker    struct{ plainOp }
	missMarkField struct {
		plainOp
		Mode Async
	}
	missTime struct {
		plainOp
		*clockBase
	}
	LabelsBase struct{ Tags string }
	clockBase  struct{}
	ownTags    struct {
		plainOp
		TagBase
		OtherTagBase
	}
	spelledRight struct{ plainOp }
)

func (clockBase) Before(time.Time) bool               { return true }
func (clockBase) After(time.Time) bool                { return true }
func (missResult) Backoff() int                       { return 3 }
func (missVariadic) DependsOn(...string) []Dependency { return nil }
func (*missReceiver) Failed(context.Context) error    { return nil }
func (missSpelling) UniqueId() string                 { return "x" } //nolint:staticcheck // the wrong spelling is the subject
func (missMarker) Idempotent() bool                   { return true }
func (ownTags) Tags() []string                        { return []string{"own"} }
func (spelledRight) Retries() int                     { return 9 }
func (spelledRight) Tries() int                       { return 2 }
func (spelledRight) Async(context.Context)            {}

func TestAMethodThatOnlyResemblesAnAbilityIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule     string
		register func(*Registry, ...RegisterOption)
		off      string // the NotAbility that makes it the user's own
		want     []string
	}{
		{"another result", func(r *Registry, o ...RegisterOption) { Register(r, "sync", Make[missResult], o...) }, "Backoff", []string{
			"register sync at ability_test.go:", "sequencer.missResult: method Backoff has another signature than the ability of that name\n",
			"\n\tfound:  Backoff() int\n", "\n\twanted: Backoff() []time.Duration\n", `rename it, or register with NotAbility("Backoff")`,
		}},
		{"a variadic parameter is printed as one", func(r *Registry, o ...RegisterOption) { Register(r, "sync", Make[missVariadic], o...) }, "DependsOn", []string{
			"found:  DependsOn(...string) []sequencer.Dependency\n", "wanted: DependsOn() []sequencer.Dependency\n",
		}},
		{"a pointer receiver on a type registered by value", func(r *Registry, o ...RegisterOption) {
			Register(r, "sync", func() missReceiver { return missReceiver{} }, o...)
		}, "Failed", []string{"found:  Failed(context.Context) error\n", "wanted: Failed(context.Context, error) error\n"}},
		{"where a promoted one comes from", func(r *Registry, o ...RegisterOption) { Register(r, "sync", Make[missPromoted], o...) }, "Tries", []string{
			"found:  Tries() string (promoted from wrongTries)\n", "wanted: Tries() int\n",
		}},
		{"two embedded types hide one another's", func(r *Registry, o ...RegisterOption) { Register(r, "sync", Make[missTwoBases], o...) }, "Tags", []string{
			"method Tags of the embedded TagBase is not promoted", "declare it on the operation itself", `NotAbility("Tags")`,
		}},
		{"a field hides a promoted one", func(r *Registry, o ...RegisterOption) { Register(r, "sync", Make[missField], o...) }, "Tags", []string{
			"method Tags of the embedded TagBase is not promoted",
		}},
		{"the guide's spelling", func(r *Registry, o ...RegisterOption) { Register(r, "sync", Make[missSpelling], o...) }, "UniqueId", []string{
			"sequencer.missSpelling: method UniqueId() string would never be called, the ability is spelled UniqueID", "rename it", `NotAbility("UniqueId")`,
		}},
		{"a marker as a method", func(r *Registry, o ...RegisterOption) { Register(r, "sync", Make[missMarker], o...) }, "Idempotent", []string{
			"method Idempotent() bool would never be called, since Idempotent is a marker", "embed sequencer.Idempotent in the struct", `NotAbility("Idempotent")`,
		}},
		{"on a function's input", func(r *Registry, o ...RegisterOption) {
			RegisterFuncOf(r, "sync", func(context.Context, missResult) error { return nil }, o...)
		}, "Backoff", []string{"register sync at ability_test.go:", "input sequencer.missResult: method Backoff has another signature"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			reg := NewRegistry()
			c.register(reg)
			wantProblems(t, reg, c.want)

			excused := NewRegistry()
			c.register(excused, NotAbility(c.off))
			if err := excused.Err(); err != nil {
				t.Errorf("with NotAbility(%q): %v", c.off, err)
			}
		})
	}
}

func TestInnocentMethodsAreLeftAlone(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	Register(reg, "own", Make[ownTags])          // declared itself, above two bases that have it
	Register(reg, "spelled", Make[spelledRight]) // Retries beside the real Tries; Async(ctx) is no marker's signature
	Register(reg, "clockBase", Make[missTime], NotAbility("Before", "After"))
	if err := reg.Err(); err != nil {
		t.Error(err)
	}
	if own, _ := reg.lookup("own"); !own.methods.has(abilityTags) {
		t.Error("the operation's own Tags is no ability")
	}

	control := NewRegistry()
	Register(control, "clockBase", Make[missTime])
	wantProblems(t, control, []string{"method Before", "(promoted from clockBase)"}, []string{"method After"})
}

func TestNotAbilitySwitchesOffTheRightSignatureToo(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	Register(reg, "own", Make[ownTags], NotAbility("Tags"), Tagged("billing"))
	if err := reg.Err(); err != nil {
		t.Fatal(err)
	}
	r, _ := reg.lookup("own")
	tags, err := r.tags(&ownTags{})
	if err != nil || len(tags) != 1 || tags[0] != "billing" {
		t.Errorf("tags are %v, %v, want those of the option alone", tags, err)
	}
}

func TestAStaleNotAbilityIsRefused(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	Register(reg, "a", Make[ownTags], NotAbility("Queue"))
	Register(reg, "b", Make[ownTags], NotAbility("Handle"))
	RegisterFunc(reg, "c", func(context.Context) error { return nil }, NotAbility("Tags"))
	wantProblems(
		t, reg,
		[]string{"register a at", `NotAbility("Queue") names no method`, "remove it"},
		[]string{"register b at", `NotAbility("Handle") names no method`},
		[]string{"register c at", `NotAbility("Tags") on a function without input`, "remove it"},
	)
}

type (
	markedBase  struct{ Async }
	markedBase2 struct{ Asynchronous }
	markedBoth  struct {
		plainOp
		markedBase
		*markedBase2
		Encrypted
	}
	markedNone struct {
		plainOp
		N int
	}
	markedAll struct {
		Async
		Encrypted
		Idempotent
		AllowedToFail
		TxNever
		plainOp
	}
	markedTwice struct {
		TxRequire
		TxNever
		plainOp
	}
	markedSelf struct {
		*markedSelf
		Idempotent
		plainOp
	}
)

func TestMarkersAreFoundAtAnyDepth(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	Register(reg, "both", Make[markedBoth]) // an unexported method would be ambiguous here
	Register(reg, "none", Make[markedNone])
	Register(reg, "all", Make[markedAll])
	Register(reg, "self", func() *markedSelf { return &markedSelf{markedSelf: nil} })
	RegisterFunc(reg, "func", func(context.Context) error { return nil }, Mark[Async](), Mark[TxRequire](), Mark[AllowedToFail]())
	RegisterFuncOf(reg, "input", func(context.Context, markedBase) error { return nil }, Mark[Idempotent]())
	if err := reg.Err(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][6]bool{
		"both": {true, true, false, false, false, false}, "none": {}, "all": {true, true, true, true, false, true},
		"self": {2: true}, "func": {0: true, 3: true, 4: true}, "input": {0: true, 2: true},
	} {
		r, _ := reg.lookup(name)
		got := [6]bool{r.async, r.encrypted, r.idempotent, r.allowedToFail, r.txRequire, r.txNever}
		if got != want {
			t.Errorf("%s: async, encrypted, idempotent, allowedToFail, txRequire, txNever are %v, want %v", name, got, want)
		}
	}
}

func TestMarkersThatCannotBeMeantAreRefused(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	Register(reg, "field", Make[missMarkField])
	Register(reg, "tx", Make[markedTwice])
	RegisterFunc(reg, "fn", func(context.Context) error { return nil }, Mark[TxRequire](), Mark[TxNever]())
	wantProblems(
		t, reg,
		[]string{"register field at", "field Mode has the type of a marker", "write sequencer.Async without a field name"},
		[]string{"register tx at", "TxRequire and TxNever exclude one another", "keep one"},
		[]string{"register fn at", "TxRequire and TxNever exclude one another"},
	)
}

// pointerOp has every ability with a pointer receiver, and is registered by value.
type pointerOp struct{ N int }

func (pointerOp) Handle(context.Context) error { return nil }
func (p *pointerOp) Tries() int                { return p.N + 2 }
func (p *pointerOp) Backoff() []time.Duration  { return []time.Duration{time.Second} }
func (p *pointerOp) RetryUntil() time.Time     { return time.Unix(int64(p.N), 0) }
func (p *pointerOp) Timeout() time.Duration    { return time.Duration(p.N) }
func (p *pointerOp) FailOnTimeout() bool       { return true }
func (p *pointerOp) MaxExceptions() int        { return p.N + 1 }
func (p *pointerOp) Middleware() []Middleware  { return []Middleware{MiddlewareFunc(nil)} }

func (p *pointerOp) Tags() []string                              { return []string{"t", "t", " u "} }
func (p *pointerOp) UniqueID() string                            { return "k" }
func (p *pointerOp) UniqueFor() time.Duration                    { return time.Hour }
func (p *pointerOp) UniqueVia() string                           { return "redis" }
func (p *pointerOp) Before(context.Context) error                { return errors.New("before") }
func (p *pointerOp) After(context.Context) error                 { return errors.New("after") }
func (p *pointerOp) Failed(_ context.Context, cause error) error { return cause }
func (p *pointerOp) ShouldRun(context.Context) (bool, error)     { return true, nil }
func (p *pointerOp) Rollback(context.Context) error              { return errors.New("rollback") }
func (p *pointerOp) DependsOn() []Dependency                     { return []Dependency{Op("other")} }
func (p *pointerOp) Environments() []string                      { return []string{"staging"} }
func (p *pointerOp) ExecuteAt() time.Time                        { return time.Unix(7, 0) }
func (p *pointerOp) Queue() string                               { return "high" }
func (p *pointerOp) MinBuild() int64                             { return 9 }
func (p *pointerOp) ApprovedBy() string                          { return "dba" }
func (p *pointerOp) Estimate(context.Context) (int64, error)     { return 9, nil }

var (
	_ Retryable         = (*pointerOp)(nil)
	_ Timeoutable       = (*pointerOp)(nil)
	_ HasMaxExceptions  = (*pointerOp)(nil)
	_ HasMiddleware     = (*pointerOp)(nil)
	_ HasTags           = (*pointerOp)(nil)
	_ ShouldBeUnique    = (*pointerOp)(nil)
	_ HasLifecycleHooks = (*pointerOp)(nil)
	_ Conditional       = (*pointerOp)(nil)
	_ Rollbackable      = (*pointerOp)(nil)
	_ Dependent         = (*pointerOp)(nil)
	_ EnvironmentBound  = (*pointerOp)(nil)
	_ Scheduled         = (*pointerOp)(nil)
	_ Queued            = (*pointerOp)(nil)
	_ BuildBound        = (*pointerOp)(nil)
	_ Estimable         = (*pointerOp)(nil)
	_ NeedsApproval     = (*pointerOp)(nil)
	_ NeedsApproval     = (*pointerOp)(nil)
	_ RetriedFor        = (*retriedForOp)(nil)
)

type retriedForOp struct{ plainOp }

func (retriedForOp) RetryFor() time.Duration { return time.Minute }

func TestEveryAbilityIsFoundOnAPointerWhateverWasRegistered(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	Register(reg, "value", func() pointerOp { return pointerOp{N: 1} })
	RegisterFuncOf(reg, "input", func(context.Context, pointerOp) error { return nil })
	RegisterFuncOf(reg, "pointer", func(context.Context, *pointerOp) error { return nil })
	if err := reg.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"value", "input", "pointer"} {
		r, _ := reg.lookup(name)
		for a := range abilityCount {
			if a != abilityRetryFor && !r.methods.has(a) {
				t.Errorf("%s: %s is not found", name, a)
			}
		}
		if !r.rollbackable || !r.conditional || !r.hasMiddleware || !r.hasHooks {
			t.Errorf("%s: rollbackable %v, conditional %v, hasMiddleware %v, hasHooks %v, want all",
				name, r.rollbackable, r.conditional, r.hasMiddleware, r.hasHooks)
		}
	}
	Register(reg, "for", Make[retriedForOp])
	if r, _ := reg.lookup("for"); !r.methods.has(abilityRetryFor) {
		t.Error("RetryFor is not found")
	}
}

func TestEveryAbilityInTheTableIsLookedUpUnderItsName(t *testing.T) {
	t.Parallel()
	for a, m := range abilityMethods(reflect.TypeFor[*pointerOp]()) {
		want := ability(a).String()
		if ability(a) == abilityRetryFor {
			want = ""
		}
		if m.Name != want {
			t.Errorf("ability %d is looked up as %q, want %q", a, m.Name, want)
		}
	}
}
