package sequencer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/gosequencer/sequencer/storage"
)

// Sequencer executes the operations of a registry against one ledger. It is safe
// for concurrent use and holds no goroutine between calls; two may live in one
// process.
type Sequencer struct {
	store   storage.Store
	tx      storage.TxStore // store, if it can; else nil
	txKinds []storage.TxKind

	connection string                // the name of store
	all        map[string]*Sequencer // by connection: the same registry and configuration over each store
	reg        *Registry
	schedules  []*boundSchedule // those of this connection, by name
	waiting    *flowWaits
	cfg        Config
}

// New checks registry and configuration and returns every problem joined. The
// registry is read here; what is added to it later is not seen. The store is not
// touched: a ledger is created by Setup, or by the first Process.
func New(store storage.Store, reg *Registry, cfg Config) (*Sequencer, error) {
	if store == nil {
		return nil, errors.New("sequencer.New: store is nil; open one, for example sqlite.Open")
	}
	if reg == nil {
		reg = NewRegistry()
	}
	s := (&Sequencer{reg: reg.snapshot(), cfg: cfg, all: map[string]*Sequencer{}, waiting: &flowWaits{}}).over(DefaultConnection, store)
	err := errors.Join(s.cfg.normalize(), reg.Err(), s.checkOperations())
	for name, other := range s.cfg.Connections {
		s.over(name, other)
	}
	if err := errors.Join(err, s.bindSchedules()); err != nil {
		return nil, err
	}
	for _, w := range s.reg.warnings() {
		s.cfg.Logger.Warn(w)
	}
	return s, nil
}

// over is s on another store.
func (s *Sequencer) over(connection string, store storage.Store) *Sequencer {
	o := *s
	o.connection, o.store = connection, store
	if o.tx, _ = store.(storage.TxStore); o.tx != nil {
		o.txKinds = o.tx.TxKinds()
	} else {
		o.txKinds = nil
	}
	s.all[connection] = &o
	return &o
}

// As is the sequencer on behalf of somebody: what it writes to the ledger and to the
// audit log has actor in the place of Config.Actor. It is the same sequencer in all
// else, on every connection, and costs nothing to make: whoever serves several people
// makes one for each request. An empty actor is Config.Actor. What cannot be shown on a
// line has � in its place, and what is longer than [storage.MaxName] bytes ends in ….
func (s *Sequencer) As(actor string) *Sequencer {
	if actor == "" {
		return s
	}
	actor = shown(actor)
	all := make(map[string]*Sequencer, len(s.all))
	for name, on := range s.all {
		o := *on
		o.cfg.Actor, o.all = actor, all
		all[name] = &o
	}
	return all[s.connection]
}

// shown is the name of a person as it can be shown on a line: it never becomes empty, nor
// the name of somebody else.
func shown(actor string) string {
	return shorten(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, actor), storage.MaxName)
}

// DefaultConnection is the name of the store given to New.
const DefaultConnection = "default"

// On is the sequencer of another connection: the same operations and configuration
// over the store of that name in Config.Connections, or over the one given to New,
// which is DefaultConnection. Nothing is atomic across two connections.
func (s *Sequencer) On(connection string) (*Sequencer, error) {
	if o := s.all[connection]; o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("connection %q is not configured: there is %s (Config.Connections)",
		connection, strings.Join(slices.Sorted(maps.Keys(s.all)), ", "))
}

// checkOperations finds what a registry alone cannot know: abilities that this
// store or configuration does not have, and mistakes in middleware.
func (s *Sequencer) checkOperations() error {
	var problems []error
	for _, reg := range s.reg.all() {
		if len(reg.problems) > 0 { // reported already
			continue
		}
		if reg.txRequire && len(s.txKinds) == 0 {
			problems = append(problems, fmt.Errorf("%s is marked TxRequire, and a %s ledger has no transactions to share: use an SQL store, or drop the mark",
				reg.name, s.store.Name()))
		}
		if reg.encrypted && s.cfg.Sealer == nil {
			problems = append(problems, fmt.Errorf("%s is marked Encrypted, and no sealer is configured (Config.Sealer): its input would be stored in clear", reg.name))
		}
		if via := reg.staticVia(); via != "" && via != DefaultConnection && s.cfg.Connections[via] == nil {
			problems = append(problems, fmt.Errorf("%s: UniqueVia is %q, which is not a connection (Config.Connections)", reg.name, via))
		}
		if err := s.checkMiddleware(reg); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", reg.name, err))
		}
	}
	return errors.Join(problems...)
}

func (s *Sequencer) checkMiddleware(reg *registration) error {
	if !reg.has(abilityMiddleware) {
		return nil
	}
	op, err := reg.fresh()
	if err != nil {
		return err
	}
	list, err := reg.middleware(op)
	if err != nil {
		return nil //nolint:nilerr // it depends on input: the attempt will tell
	}
	var problems []error
	for i, m := range list {
		if m == nil {
			problems = append(problems, fmt.Errorf("middleware %d is nil", i))
		} else if c, ok := m.(Checker); ok {
			problems = append(problems, c.Check(s.cfg))
		}
	}
	return errors.Join(problems...)
}

// Store is the ledger given to New, or that of the connection that [Sequencer.On] named.
func (s *Sequencer) Store() storage.Store { return s.store }

// Names lists the registered operations, sorted.
func (s *Sequencer) Names() []string { return s.reg.names() }

// Config is the configuration in effect, defaults filled in.
func (s *Sequencer) Config() Config { return s.cfg }

// Setup creates or upgrades the ledger's schema. Process does it by itself.
func (s *Sequencer) Setup(ctx context.Context) error {
	_, err := s.store.Setup(ctx)
	return err
}

// Validate checks what can be checked without running anything: New has checked
// the registry; this adds the dependency graph, against the migrations there are.
func (s *Sequencer) Validate(ctx context.Context) error {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	for i := range snap.migrations {
		snap.migrations[i].AppliedAt = time.Time{} // the graph as a whole, not what is left of it
	}
	snap.newest = nil
	_, err = buildPlan(s.reg, snap, RunOptions{})
	return err
}
