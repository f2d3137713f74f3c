package sequencer

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/storage"
)

type (
	idText      string
	selfCoded   struct{ inner string }
	writeOnly   struct{ inner string }
	wrappedTime struct{ time.Time }
	lossyTime   struct {
		time.Time
		Zone string
	}
	rivalA struct{ Name string }
	rivalB struct{ Name string }
	rivalT struct {
		Other string `json:"Name"`
	}
	hiddenDeps   struct{ db *sql.DB }
	unexportedIn struct{ Name string }
	recursive    struct {
		Next *recursive
		Kids []recursive
	}
	stampedOp struct {
		plainOp
		time.Time
	}
	deeplyOp struct {
		plainOp
		wrappedTime
	}
	codedOp struct {
		plainOp
		time.Time
		N int
	}
	rivalsOp struct {
		plainOp
		rivalA
		rivalB
	}
	loneOp struct {
		plainOp
		Name string
		rivalA
		rivalB
	}
	taggedOp struct {
		plainOp
		rivalA
		rivalT
	}
	depsOp struct {
		plainOp
		*hiddenDeps
		N int
	}
	pointedOp struct {
		plainOp
		*unexportedIn
	}
	twoOp struct {
		plainOp
		time.Time
		netip.Addr
	}
)

func (s selfCoded) MarshalText() ([]byte, error)  { return []byte(s.inner), nil }
func (s *selfCoded) UnmarshalText(b []byte) error { s.inner = string(b); return nil }
func (s writeOnly) MarshalJSON() ([]byte, error)  { return json.Marshal(s.inner) }
func (c codedOp) MarshalJSON() ([]byte, error)    { return json.Marshal(c.N) }
func (c *codedOp) UnmarshalJSON(b []byte) error   { return json.Unmarshal(b, &c.N) }

// problemsOfField checks an input with one exported field F of type V.
func problemsOfField[V any]() []string {
	reg := NewRegistry()
	RegisterFuncOf(reg, "x", func(context.Context, struct{ F V }) error { return nil })
	return registryProblems(reg)
}

var _ = depsOp{hiddenDeps: &hiddenDeps{db: nil}} // only reflection looks at it

// problemsOf checks operation T.
func problemsOf[T Operation]() []string {
	reg := NewRegistry()
	Register(reg, "x", func() (t T) { return t })
	return slices.DeleteFunc(registryProblems(reg), func(p string) bool {
		return strings.Contains(p, "has another signature") // an embedded time.Time brings Before and After
	})
}

func TestAnInputThatWouldNotSurviveItsStorageIsRefused(t *testing.T) {
	t.Parallel()
	const keepOut = ": unexport it, or tag it `json:\"-\"`"
	for _, c := range []struct {
		rule string
		got  []string
		want string // "" is no problem
	}{
		{"S1.6 text, numbers, lists, maps and times", problemsOfField[struct {
			A string
			B []int
			C map[int]*time.Time
			D any
			E netip.Addr
			F *big.Int
			G json.RawMessage
			H [2]idText
			I struct{}
			J map[netip.Addr]struct{}
			K []byte
		}](), ""},
		{"a type that contains itself", problemsOfField[recursive](), ""},
		{"a type with its own encoding", problemsOfField[[]selfCoded](), ""},
		{"a wrapper around one embedded encoding", problemsOfField[wrappedTime](), ""},
		{"an encoding one way", problemsOfField[writeOnly](), "input field F (sequencer.writeOnly) can be written as JSON and not read back: add UnmarshalJSON"},
		{"a channel", problemsOfField[chan int](), "input field F (chan int) cannot be stored" + keepOut},
		{"a function", problemsOfField[func()](), "input field F (func()) cannot be stored" + keepOut},
		{"a complex number", problemsOfField[[]complex64](), "input field F ([]complex64) cannot be stored"},
		{"an interface", problemsOfField[error](), "input field F (error) cannot be restored, because JSON does not tell which type it had: use a concrete type"},
		{"a database", problemsOfField[*sql.DB](), "input field F (*sql.DB) has no exported fields"},
		{"a logger", problemsOfField[*slog.Logger](), "input field F (*slog.Logger) has no exported fields"},
		{"a client, told of once", problemsOfField[*http.Client](), "input field F.Transport (http.RoundTripper) cannot be restored"},
		{"a struct that is only partly text", problemsOfField[*url.URL](), "input field F.User (*url.Userinfo) has no exported fields"},
		{"a map with strange keys", problemsOfField[map[[2]int]string](), "input field F (map[[2]int]string) has keys that JSON cannot write: use strings or integers"},
		{"an encoding that swallows its neighbours", problemsOfField[lossyTime](), "input field F (sequencer.lossyTime) is encoded by its embedded Time alone, and its other fields are lost: give Time a field name"},
		{"what is kept out by tag", problemsOfField[struct {
			DB *sql.DB `json:"-"`
			N  int
		}](), ""},
		{"nothing but what is kept out by tag", problemsOfField[struct {
			DB *sql.DB `json:"-"`
		}](), ""},

		{"an operation with an embedded time", problemsOf[stampedOp](), "sequencer.stampedOp: the embedded Time has its own encoding, which takes the place of the whole input: give it a field name"},
		{"an encoding further in", problemsOf[deeplyOp](), "the embedded wrappedTime.Time has its own encoding"},
		{"two encodings, of which Go promotes neither", problemsOf[twoOp](), "the embedded Time has its own encoding"},
		{"an operation that encodes itself", problemsOf[codedOp](), ""},
		{"two embedded fields of one name", problemsOf[rivalsOp](), `input fields rivalA.Name and rivalB.Name share the JSON name "Name", and JSON drops them all: give them different names by tag`},
		{"two embedded fields below one of the operation's", problemsOf[loneOp](), ""},
		{"two embedded fields of which one is tagged", problemsOf[taggedOp](), ""},
		{"dependencies behind an embedded pointer", problemsOf[depsOp](), ""},
		{"input behind an unexported embedded pointer", problemsOf[pointedOp](), "input field unexportedIn (*sequencer.unexportedIn) cannot be restored, because JSON does not allocate"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			switch {
			case c.want == "" && len(c.got) == 0:
			case c.want == "" || len(c.got) != 1 || !strings.Contains(c.got[0], c.want) || !strings.HasPrefix(c.got[0], "register x at input_test.go:"):
				t.Errorf("got %q, want %q", c.got, c.want)
			}
		})
	}
}

func TestEachBadFieldIsNamed(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	RegisterFuncOf(reg, "x", func(context.Context, struct {
		A, B *sql.DB
		C    chan int
		D    struct{ E *sql.DB }
	},
	) error {
		return nil
	})
	wantProblems(t, reg, []string{"input field A ("}, []string{"input field B ("}, []string{"input field C ("}, []string{"input field D.E ("})
}

func TestAFunctionTypeIsToldToUseRegisterFunc(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	Register(reg, "x", func() funcType { return func() {} })
	wantProblems(t, reg, []string{"register x at", "the input (sequencer.funcType) cannot be stored: make it a struct, or register a function by RegisterFunc"})
}

type funcType func()

func (funcType) Handle(context.Context) error { return nil }

// restoredOp is an operation with every kind of field that restoring must respect.
type restoredOp struct {
	Idempotent
	Text    string      `json:"text"`
	Limit   int         `json:"limit,omitempty"`
	At      time.Time   `json:"at"`
	List    []int       `json:"list"`
	Deep    *restoredOp `json:"deep,omitempty"`
	Kept    string      `json:"-"`
	private string
}

func (restoredOp) Handle(context.Context) error { return nil }

func restoredRegistration(t *testing.T, opts ...RegisterOption) *registration {
	t.Helper()
	reg := NewRegistry()
	Register(reg, "restored", func() *restoredOp { return &restoredOp{Text: "default", Limit: 5, Kept: "kept", private: "injected"} }, opts...)
	if err := reg.Err(); err != nil {
		t.Fatal(err)
	}
	r, _ := reg.lookup("restored")
	return r
}

func TestInputIsRestoredIntoAValueOfTheFactory(t *testing.T) {
	t.Parallel()
	r := restoredRegistration(t)
	at := time.Date(2024, 1, 15, 12, 0, 0, 123456789, time.FixedZone("x", 3600))
	stored, err := r.encode(&restoredOp{Text: "<&>", At: at, List: []int{1}, Deep: &restoredOp{Text: "in"}, Kept: "lost", private: "lost"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if stored[0] != 1 || stored[1] != 0 || !json.Valid(stored[2:]) {
		t.Fatalf("stored as %q, want format 1, no key and JSON", stored)
	}
	op, err := r.decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	want := &restoredOp{Text: "<&>", Limit: 5, At: at, List: []int{1}, Deep: &restoredOp{Text: "in"}, Kept: "kept", private: "injected"}
	if diff := cmp.Diff(want, op, cmp.AllowUnexported(restoredOp{})); diff != "" {
		t.Errorf("S1.6, S2.7: %s", diff)
	}
}

func TestStoredInputOfAnotherBuild(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule, stored, wrong string
	}{
		{"a field that is gone is ignored", "\x01\x00" + `{"text":"a","gone":1}`, ""},
		{"a field that is new keeps its default", "\x01\x00" + `{}`, ""},
		{"null changes nothing", "\x01\x00null", ""},
		{"a key id in front is skipped", "\x01\x03key{}", ""},
		{"a field that changed its type", "\x01\x00" + `{"limit":"many"}`, "restored: input field limit: a JSON string does not fit int"},
		{"a field further in", "\x01\x00" + `{"deep":{"list":[true]}}`, "restored: input field deep.list: a JSON bool does not fit int"},
		{"a number is not quoted", "\x01\x00" + `{"list":[4111.1]}`, "restored: input field list: a JSON number does not fit int"},
		{"the whole input", "\x01\x00[]", "restored: input field as a whole: a JSON array does not fit sequencer.restoredOp"},
		{"bytes cut off", "\x01\x00" + `{"text"`, "restored: input: unexpected end of JSON input"},
		{"a format of the future", "\x07\x00{}", "restored: input: format 7 is unknown to this build"},
		{"no header", "\x01", "restored: input: 1 bytes are too few for its header"},
		{"a key id cut off", "\x01\x09key", "restored: input: 5 bytes are too few for its header"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			_, err := restoredRegistration(t).decode([]byte(c.stored))
			if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
				t.Errorf("got %v, want %q", err, c.wrong)
			}
			if err != nil && strings.Contains(err.Error(), "4111") {
				t.Errorf("S15.4 the error shows the input: %v", err)
			}
		})
	}
}

func TestInputHasALimit(t *testing.T) {
	t.Parallel()
	r := restoredRegistration(t)
	empty, err := r.encode(&restoredOp{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	sized := func(n int) *restoredOp { return &restoredOp{Text: strings.Repeat("x", n-len(empty))} }
	for _, c := range []struct {
		rule               string
		size, limit, bound int
	}{
		{"exactly the limit given", 1000, 1000, 0},
		{"one byte more", 1001, 1000, 1000},
		{"exactly the default", DefaultMaxInput, 0, 0},
		{"one byte more than the default", DefaultMaxInput + 1, 0, DefaultMaxInput},
		{"a limit above the stores' is theirs", storage.MaxInput + 1, 1 << 30, storage.MaxInput},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			stored, err := r.encode(sized(c.size), c.limit)
			if c.bound == 0 {
				if err != nil || len(stored) != c.size {
					t.Errorf("got %d bytes, %v, want %d", len(stored), err, c.size)
				}
				return
			}
			tooLarge, ok := errors.AsType[*InputTooLargeError](err)
			if !ok || *tooLarge != (InputTooLargeError{"restored", c.size, c.bound}) {
				t.Errorf("got %v", err)
			}
			if want := fmt.Sprintf("restored: the input has %d bytes and %d is the limit: store it elsewhere", c.size, c.bound); !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got %q, want it to begin with %q", err, want)
			}
		})
	}
}

type secretive struct {
	plainOp
	N     float64
	Token leaky
}

type leaky string

func (l leaky) MarshalText() ([]byte, error)  { return []byte(l), nil }
func (l *leaky) UnmarshalText(b []byte) error { return fmt.Errorf("token %s is bad", b) }

func TestErrorsOfAnEncryptedInputDoNotShowIt(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{true, false} {
		reg := NewRegistry()
		opts := []RegisterOption{Mark[Idempotent]()}
		if encrypted {
			opts = append(opts, Mark[Encrypted]())
		}
		Register(reg, "secret", Make[secretive], opts...)
		r, _ := reg.lookup("secret")
		_, err := r.decode([]byte("\x01\x00" + `{"Token":"s3cret"}`))
		if err == nil || !strings.HasPrefix(err.Error(), "secret: ") || strings.Contains(err.Error(), "s3cret") == encrypted {
			t.Errorf("S15.4 encrypted %v: %v", encrypted, err)
		}
		if _, err := r.encode(&secretive{N: math.NaN()}, 0); err == nil || !strings.HasPrefix(err.Error(), "secret: ") {
			t.Errorf("a number that JSON has no text for: %v", err)
		}
	}
}
