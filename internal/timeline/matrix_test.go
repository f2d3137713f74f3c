package timeline_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/faketime"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// S1.3: whatever an operation declares holds on every path by which an execution comes to
// be. A further ability is an entry of abilities, a further path one of paths; each cell of
// the two is a test. An ability that means nothing on a path, or something else, says so.

// ability is one thing that an operation declares, and what is to come of it.
type ability struct {
	name string
	asks string // the methods and markers of operation.go that it shows

	declare []sequencer.RegisterOption
	notes   func(c *cell) []sequencer.RegisterOption                            // those that note something
	op      func(c *cell, opts ...sequencer.RegisterOption) sequencer.Operation // default: plain
	cfg     sequencer.Config                                                    // of the process that serves it
	first   func(ctx context.Context, c *cell) error                            // right before the first delivery
	handle  func(ctx context.Context, c *cell, n int) error                     // n counts calls, from 1
	after   func(c *cell)                                                       // once the path is at its end
	sql     bool                                                                // the ledger has to share transactions
	killed  bool                                                                // the process dies in the middle of the first call
	want    want                                                                // …of it
	check   func(c *cell, row storage.Execution)                                // …and the rest
	on      func(p *path) (otherwise want, differs bool)                        // what is different on a path
	never   func(p *path) string                                                // why it means nothing on a path, "" = it does
}

// want is what the ledger and the handler are to show.
type want struct {
	starts   []time.Duration // counted from the first one
	slack    time.Duration   // how much later each may be
	state    storage.State
	attempts int
	errors   int
}

func completed(starts ...time.Duration) want {
	return want{starts: starts, state: storage.Completed, attempts: len(starts)}
}

func failed(starts ...time.Duration) want {
	return want{starts: starts, state: storage.Failed, attempts: len(starts), errors: len(starts)}
}

// cell is one ability on one path.
type cell struct {
	*world
	ability *ability
	path    *path
	name    string
	op      sequencer.Operation
	seqs    *sequencer.Sequencer // the process that serves it
	victim  *sequencer.Sequencer // the one before, which is killed
	around  []storage.State      // how the flows around it ended
	keys    *memory.Store        // another connection
	next    string               // an execution that a handler dispatched
	middle  chan struct{}        // closed in the middle of the first call, of one that is to be killed
	stop    chan struct{}        // closed when the test is over
}

// plain is the operation of every cell. It knows its cell by the factory.
type plain struct {
	Card string `json:"card"`
	c    *cell
}

func (p *plain) Handle(ctx context.Context) error {
	c := p.c
	c.note("start")
	n := len(c.at("start"))
	if p.Card != card {
		c.t.Errorf("the input is %q, want %q", p.Card, card)
	}
	if c.ability.killed && n == 1 {
		close(c.middle)
		<-c.stop
	}
	if c.ability.handle == nil {
		return nil
	}
	return c.ability.handle(ctx, c, n)
}

// declaredBy registers an operation of type T.
func declaredBy[T sequencer.Operation](value func(plain) T) func(*cell, ...sequencer.RegisterOption) sequencer.Operation {
	return func(c *cell, opts ...sequencer.RegisterOption) sequencer.Operation {
		sequencer.Register(c.reg, c.name, func() T { return value(plain{Card: card, c: c}) }, opts...)
		return value(plain{Card: card})
	}
}

// run is the test of a cell.
func (c *cell) run() {
	a := c.ability
	c.keys = memory.New()
	c.name, c.middle, c.stop = "op", make(chan struct{}), make(chan struct{})
	if c.path.ordered {
		c.name = "20240115120000_op"
	}
	c.t.Cleanup(func() { close(c.stop) })
	opts := slices.Clone(a.declare)
	if c.path.defers && a.op == nil { // what is declared wins over what deferring adds (S28.12)
		opts = append([]sequencer.RegisterOption{sequencer.Backoff()}, opts...)
		if a.asks != "RetryFor" && !a.killed { // a single try binds losses too
			opts = append([]sequencer.RegisterOption{sequencer.Tries(1)}, opts...)
		}
	}
	if a.notes != nil {
		opts = append(opts, a.notes(c)...)
	}
	declare := a.op
	if declare == nil {
		declare = declaredBy(func(p plain) *plain { return &p })
	}
	c.op = declare(c, opts...)
	if c.path.declare != nil {
		c.path.declare(c)
	}
	if a.killed {
		c.killed(func(s *sequencer.Sequencer) {
			c.victim = s
			c.path.start(c, s)
		}, c.config(), c.middle)
		c.seqs = c.seq(c.process(), c.config())
		if c.path.resume != nil {
			c.path.resume(c, c.seqs)
		} else {
			c.serve(c.seqs)
		}
	} else {
		c.seqs = c.seq(c.process(), c.config())
		c.path.start(c, c.seqs)
	}
	if a.after != nil {
		a.after(c)
	}
	w := a.want
	if a.on != nil {
		if other, differs := a.on(c.path); differs {
			w = other
		}
	}
	row := c.last()
	if row.State != w.state || row.Attempts() != w.attempts || row.Errors != w.errors {
		c.t.Errorf("%s; want %s after %d attempts, %d errors", describe(row), w.state, w.attempts, w.errors)
	}
	starts := c.at("start")
	for i := range starts {
		if i > 0 {
			starts[i] -= starts[0]
		}
	}
	if len(starts) > 0 {
		starts[0] = 0
	}
	ok := len(starts) == len(w.starts)
	for i := 0; ok && i < len(starts); i++ {
		ok = starts[i] >= w.starts[i]-exact && starts[i] <= w.starts[i]+w.slack+exact
	}
	if !ok {
		c.t.Errorf("started at %v, want %v, each up to %s later", starts, w.starts, w.slack)
	}
	if n, one := len(c.of(sequencer.EventFailed)), row.State == storage.Failed; (n == 1) != one {
		c.t.Errorf("it was said to have failed %d times, and is %s", n, row.State)
	}
	if a.check != nil {
		a.check(c, row)
	}
}

// config is the ability's, with what every cell has: word of the first delivery.
func (c *cell) config() sequencer.Config {
	cfg := c.ability.cfg
	cfg.Environment = "test"
	cfg.Connections = map[string]storage.Store{"keys": faketime.New(undying{c.keys}, time.Now)}
	cfg.Limiters = maps.Clone(cfg.Limiters)
	if keys, err := ring(); err == nil {
		cfg.Sealer = keys
	}
	var once sync.Once
	cfg.Middleware = []sequencer.Middleware{sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
		return func(ctx context.Context, a *sequencer.Attempt) error {
			if a.Name != c.name {
				return next(ctx, a)
			}
			var err error
			once.Do(func() {
				c.note("delivered")
				if c.ability.first != nil {
					err = c.ability.first(ctx, c)
				}
			})
			if err != nil {
				return err
			}
			return next(ctx, a)
		}
	})}
	cfg.Observers = []sequencer.Observer{func(_ context.Context, e sequencer.Event) {
		if e.Name == c.name {
			c.note("event " + string(e.Kind))
		}
		if e.Kind == sequencer.EventApprovalNeeded {
			go c.approve(e.ID)
		}
	}}
	return cfg
}

// deliberation is how long a person takes to approve.
const deliberation = 25 * second

func (c *cell) approve(id string) {
	time.Sleep(deliberation) // sleep: in a bubble
	if _, err := c.seqs.Approve(c.lasting(), id, "looks right"); err != nil {
		c.t.Error(err)
	}
}

// neighbour is a process with a ledger of its own, and the other connection in common.
func (c *cell) neighbour() *sequencer.Sequencer {
	c.t.Helper()
	cfg := c.config()
	cfg.Middleware, cfg.Observers, cfg.Logger = nil, nil, slog.New(slog.DiscardHandler)
	s, err := sequencer.New(faketime.New(memory.New(), time.Now), c.reg, cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// of is when an event of the operation was heard.
func (c *cell) of(kind sequencer.EventKind) []time.Duration { return c.at("event " + string(kind)) }

// last is the newest execution of the operation, without what undoes it.
func (c *cell) last() storage.Execution {
	c.t.Helper()
	rows := slices.DeleteFunc(c.rows(c.seqs, c.name), func(e storage.Execution) bool {
		return e.Kind == storage.Undo || e.Kind == storage.Hook || e.Kind == storage.KindApproval || c.next != "" && e.ID == idOf(c.next)
	})
	if len(rows) == 0 {
		c.t.Fatalf("there is no execution of %s", c.name)
	}
	return rows[len(rows)-1]
}

// idle is longer than anything waits in a cell, but for its first tick.
const idle = 11 * time.Minute

// serve works until nothing has been to do for longer than anything waits.
func (c *cell) serve(s *sequencer.Sequencer) { c.serveFor(s, idle) }

func (c *cell) serveFor(s *sequencer.Sequencer, idle time.Duration) {
	err := s.Work(c.lasting(), sequencer.WorkerConfig{Queues: []string{"default", "special"}, StopWhenEmptyFor: idle, Poll: 30 * time.Second})
	c.fault(s, err)
}

// lasting does not end with the test: a process that is killed is not told.
func (c *cell) lasting() context.Context { return context.WithoutCancel(c.t.Context()) }

// fault reports an error, unless it is that of a process that is killed.
func (c *cell) fault(s *sequencer.Sequencer, err error) {
	if err != nil && s != c.victim {
		c.t.Error(err)
	}
}

// flow serves a batch or chain, and keeps how it ended.
func (c *cell) flow(s *sequencer.Sequencer, f *sequencer.Flow, err error) {
	if err != nil {
		c.t.Error(err)
		return
	}
	c.serve(s)
	st, err := f.Status(c.lasting())
	c.fault(s, err)
	c.around = append(c.around, st.State)
}

// helper registers an operation that does something around the one of the cell.
func (c *cell) helper(name string, do func(ctx context.Context) error) sequencer.Operation {
	return sequencer.RegisterFunc(c.reg, name, do)
}

func (c *cell) nothing(name string) { c.helper(name, func(context.Context) error { return nil }) }

func named(name string) sequencer.Operation { return sequencer.Named(name, nil) }

// deploy is a deploy run.
func (c *cell) deploy(s *sequencer.Sequencer, o sequencer.RunOptions) {
	o.Isolate, o.WaitLock, o.WaitApproval = true, time.Hour, time.Hour
	report, err := s.Process(c.lasting(), o)
	if report == nil {
		if !errors.Is(err, sequencer.ErrInterrupted) { // the row says so too
			c.fault(s, err)
		}
		return
	}
	c.around = append(c.around, report.State)
}

// means says why the cell is no test, "" if it is one.
func (a *ability) means(p *path) string {
	if a.never == nil {
		return ""
	}
	return a.never(p)
}

// table collects which cells held, to be printed.
type table struct {
	mu    sync.Mutex
	cells map[[2]string]string
}

func (r *table) put(a *ability, p *path, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cells == nil {
		r.cells = map[[2]string]string{}
	}
	r.cells[[2]string{a.name, p.name}] = text
}

// String has a line per ability and a column per path.
func (r *table) String() string {
	var b strings.Builder
	wide := 0
	for _, a := range abilities {
		wide = max(wide, len(a.name))
	}
	for i, p := range paths {
		fmt.Fprintf(&b, "\n%*s  %s%c %s", wide, "", strings.Repeat("| ", i), 'A'+i, p.name)
	}
	why := map[string]bool{}
	for _, a := range abilities {
		fmt.Fprintf(&b, "\n%*s  ", wide, a.name)
		for _, p := range paths {
			mark := r.cells[[2]string{a.name, p.name}]
			if reason := a.means(p); reason != "" {
				mark = "."
				why[fmt.Sprintf("%s: %s", a.name, reason)] = true
			}
			fmt.Fprintf(&b, "%-2s", mark)
		}
	}
	b.WriteString("\n\no holds   X does not   . means nothing there, because of")
	for _, line := range slices.Sorted(maps.Keys(why)) {
		b.WriteString("\n  " + line)
	}
	return b.String()
}

// cellsOn runs cells on a backend and notes which of them held.
func cellsOn(t *testing.T, b backend, seen *table, pick func(i int, a *ability) []*path) {
	t.Helper()
	for i := range abilities {
		a := abilities[i]
		for _, p := range pick(i, a) {
			if (p.sql || a.sql) && !b.sql || a.means(p) != "" {
				continue
			}
			t.Run(a.name+"/"+p.name, func(t *testing.T) {
				t.Parallel()
				t.Cleanup(func() {
					if t.Failed() {
						seen.put(a, p, "X")
					} else {
						seen.put(a, p, "o")
					}
				})
				b.bubble(t, func(w *world) { (&cell{world: w, ability: a, path: p}).run() })
			})
		}
	}
}

func TestS1_3_EveryAbilityHoldsOnEveryPath(t *testing.T) {
	t.Parallel()
	var seen table
	t.Run("memory", func(t *testing.T) { //nolint:paralleltest // its end is waited for
		cellsOn(t, backends[0], &seen, func(int, *ability) []*path { return paths })
	})
	t.Log(seen.String())
}

// On the other stores each ability takes one path, another one on each, and chance adds
// some cells.
func TestS1_3_AbilitiesHoldOnEveryBackend(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for n, b := range backends[1:] {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			chance := map[int]*path{}
			for range samples {
				chance[random.IntN(len(abilities))] = paths[random.IntN(len(paths))]
			}
			var seen table
			t.Run("cells", func(t *testing.T) { //nolint:paralleltest // its end is waited for
				cellsOn(t, b, &seen, func(i int, a *ability) []*path {
					var picked []*path
					for k := range paths { // the next that means something
						p := paths[(i*3+n*5+k)%len(paths)]
						if a.means(p) == "" && (b.sql || !p.sql && !a.sql) {
							picked = append(picked, p)
							break
						}
					}
					if p := chance[i]; p != nil && !slices.Contains(picked, p) {
						picked = append(picked, p)
					}
					return picked
				})
			})
			t.Log(seen.String())
		})
	}
}

// samples is how many cells chance adds on each store.
const samples = 8

// planned are abilities that are asked while a run is planned, previewed or rehearsed: no
// execution has them.
var planned = []string{"Estimate", "Rehearsable"}

func TestS1_3_TheMatrixHasEveryAbilityThereIs(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../../operation.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{"Handle": true}
	for _, name := range planned {
		have[name] = true
	}
	for _, a := range abilities {
		for name := range strings.FieldsSeq(a.asks) {
			have[name] = true
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		switch typ := spec.Type.(type) {
		case *ast.InterfaceType:
			for _, m := range typ.Methods.List {
				if !have[m.Names[0].Name] {
					t.Errorf("%s.%s is an ability that the matrix does not have", spec.Name.Name, m.Names[0].Name)
				}
			}
		case *ast.StructType:
			if len(typ.Fields.List) == 0 && !have[spec.Name.Name] {
				t.Errorf("%s is a marker that the matrix does not have", spec.Name.Name)
			}
		}
		return true
	})
}
