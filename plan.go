package sequencer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/internal/graph"
	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
)

// Task is a migration or an operation in a plan.
type Task struct {
	Kind      storage.Kind `json:"kind"` // ordered or migration
	Name      string       `json:"name"`
	Version   int64        `json:"version"` // the 14 digits of its timestamp
	DependsOn []Dependency `json:"depends_on,omitempty"`
	// Wave is when its turn comes: 1, or one more than the highest wave of those it
	// waits for. Tasks of one wave may run at the same time.
	Wave int `json:"wave"`
	// After are the tasks, and joins, that must be over before it starts, however they
	// ended, besides those it depends on.
	After []string `json:"after,omitempty"`
	Tags  []string `json:"tags,omitempty"`

	Async         bool     `json:"async,omitempty"`
	Conditional   bool     `json:"conditional,omitempty"`     // ShouldRun decides when its turn comes
	AllowedToFail bool     `json:"allowed_to_fail,omitempty"` //
	Undoable      bool     `json:"undoable,omitempty"`
	Irreversible  bool     `json:"irreversible,omitempty"`
	Environments  []string `json:"environments,omitempty"`
	Elsewhere     bool     `json:"elsewhere,omitempty"`   // its environments do not include this one: it will be skipped
	ApprovedBy    string   `json:"approved_by,omitempty"` // who has to approve it, "" = nobody
	Approved      bool     `json:"approved,omitempty"`    // and has

	Last       storage.State `json:"last,omitempty"`         // how it last ended, "" = never ran
	OutOfOrder bool          `json:"out_of_order,omitempty"` // older than something that is applied
	Checksum   string        `json:"checksum,omitempty"`
	Evaluation *Evaluation   `json:"evaluation,omitempty"` // in a preview that evaluates

	migration *migration.Migration
	needs     []int // indexes of tasks of this plan that it depends on
}

// Drift is an applied migration whose text is no longer what was applied.
type Drift struct {
	Name    string `json:"name"`
	Applied string `json:"applied"` // checksum in the ledger
	Found   string `json:"found"`   // checksum of the file now
}

// Later is an operation whose time has not come.
type Later struct {
	Name   string    `json:"name"`
	At     time.Time `json:"at"`
	Tags   []string  `json:"tags,omitempty"`
	Queued bool      `json:"queued,omitempty"` // the run queues it, see QueueScheduled

	id        storage.ID // of what is queued already
	dependsOn []Dependency
	ready     bool // these are done, or will be by the end of the run
}

// Plan is what a run would do, in which order, and what it would leave. It is a
// pure function of registry, ledger and migrations; Preview returns it and
// Process executes the same value, so the two cannot disagree (S3, S19.6).
type Plan struct {
	Method string `json:"method"`
	Tasks  []Task `json:"tasks"`
	Joins  []Join `json:"joins,omitempty"`

	InFlight    []string `json:"in_flight,omitempty"`   // queued or running for somebody else: not offered again (S3.3)
	Scheduled   []Later  `json:"scheduled,omitempty"`   // ExecuteAt lies ahead
	Interrupted []string `json:"interrupted,omitempty"` // a person must decide first; Process refuses
	Drift       []Drift  `json:"drift,omitempty"`
	Unknown     []string `json:"unknown,omitempty"` // in the ledger, no longer registered (S2.8)
	Missing     []string `json:"missing,omitempty"` // applied migrations whose file is gone
	Filtered    int      `json:"filtered,omitempty"`
	Blocked     string   `json:"blocked,omitempty"` // the guard that would stop a run, and why

	layout  *layout
	waiting []Later // in flight, and not begun
}

// Join is where many tasks meet that several others wait for.
type Join struct {
	Name  string   `json:"name"`
	After []string `json:"after"`
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool { return len(p.Tasks) == 0 }

// Names lists the tasks in order.
func (p *Plan) Names() []string {
	names := make([]string, len(p.Tasks))
	for i, t := range p.Tasks {
		names[i] = t.Name
	}
	return names
}

// slots bounds how many executions are worth having in hand: as many as can run at a
// time. Claiming for more would only make each claim look further.
func (p *Plan) slots(most int) int { return max(1, min(most, p.layout.wide)) }

// snapshot is everything outside the registry that a plan depends on.
type snapshot struct {
	newest      []storage.Effective // effective rows, see storage.NewestRequest
	migrations  []migration.Migration
	environment string
	now         time.Time
}

// planner holds a plan in the making.
type planner struct {
	reg    *Registry
	snap   snapshot
	opts   RunOptions
	from   int64
	plan   Plan
	newest map[string]*storage.Effective // operations, by current name
	rows   map[string]*storage.Effective // migrations' rows
	index  map[string]int                // tasks by key
	left   map[string]string             // why a pending task is not in the plan, by key
}

// buildPlan decides what a run with these options does. It calls no operation
// code but static abilities (S19.7).
func buildPlan(reg *Registry, snap snapshot, opts RunOptions) (*Plan, error) {
	from, err := parseFrom(opts.From)
	if err != nil {
		return nil, err
	}
	p := newPlanner(reg, snap, opts)
	p.from = from
	p.readLedger()
	if err := p.checkNames(); err != nil {
		return nil, err
	}
	p.addMigrations()
	if err := p.addOperations(); err != nil {
		return nil, err
	}
	err = p.link()
	if len(p.plan.Interrupted) > 0 && errors.Is(err, ErrDependencyExcluded) { // that is what to settle first
		err = errors.Join(&InterruptedError{Names: p.plan.Interrupted}, err)
	}
	if err != nil {
		return nil, err
	}
	return &p.plan, nil
}

func newPlanner(reg *Registry, snap snapshot, opts RunOptions) *planner {
	return &planner{
		reg: reg, snap: snap, opts: opts,
		newest: make(map[string]*storage.Effective, len(snap.newest)), rows: make(map[string]*storage.Effective, len(snap.migrations)),
		index: map[string]int{}, left: map[string]string{},
	}
}

// readLedger files the effective rows under the names operations have now (S2.5).
func (p *planner) readLedger() {
	for i := range p.snap.newest {
		row := &p.snap.newest[i]
		if row.Kind == storage.Migration {
			p.rows[row.Name] = row
			continue
		}
		reg, ok := p.reg.lookup(row.Name)
		if !ok {
			p.plan.Unknown = append(p.plan.Unknown, row.Name)
			continue
		}
		if known := p.newest[reg.name]; known == nil || known.CreatedAt.Before(row.CreatedAt) {
			p.newest[reg.name] = row
		}
	}
}

// checkNames refuses unknown names in Only, so that a typo is no silent "nothing to do".
func (p *planner) checkNames() error {
	for _, name := range p.opts.Only {
		if _, ok := p.reg.lookup(name); !ok {
			return notFound(p.reg, name)
		}
	}
	return nil
}

// done reports whether an operation needs no run any more (S5.6).
func done(row *storage.Effective) bool {
	return row != nil && storage.Satisfies(row.State, row.ForNow)
}

func (p *planner) addMigrations() {
	highest := p.highestApplied()
	for i := range p.snap.migrations {
		m := &p.snap.migrations[i]
		row := p.rows[m.Name]
		switch {
		case m.Missing:
			p.plan.Missing = append(p.plan.Missing, m.Name)
		case m.Applied():
			if row != nil && row.State == storage.Completed && row.Checksum != "" && m.Checksum != "" && row.Checksum != m.Checksum {
				p.plan.Drift = append(p.plan.Drift, Drift{Name: m.Name, Applied: row.Checksum, Found: m.Checksum})
			}
		case row != nil && row.State == storage.Interrupted:
			p.plan.Interrupted = append(p.plan.Interrupted, m.Name)
		case row != nil && !row.State.Over():
			p.plan.InFlight = append(p.plan.InFlight, m.Name)
			p.left[migrationKey(m.Name)] = "in flight in another run"
		case m.Version < p.from:
			p.leave(migrationKey(m.Name), "older than --from")
		default:
			t := Task{
				Kind: storage.Migration, Name: m.Name, Version: m.Version, Checksum: m.Checksum,
				OutOfOrder: m.Version < highest, migration: m,
			}
			if row != nil {
				t.Last = row.State
			}
			p.add(migrationKey(m.Name), t)
		}
	}
}

// highestApplied is the newest timestamp that is done; what is older came late.
func (p *planner) highestApplied() int64 {
	var highest int64
	for _, m := range p.snap.migrations {
		if m.Applied() {
			highest = max(highest, m.Version)
		}
	}
	for _, reg := range p.reg.ordered() {
		if done(p.newest[reg.name]) {
			highest = max(highest, reg.version)
		}
	}
	return highest
}

func (p *planner) addOperations() error {
	highest := p.highestApplied()
	var never []string
	for _, reg := range p.reg.ordered() {
		row := p.newest[reg.name]
		if done(row) && !p.opts.Repeat {
			continue
		}
		key := operationKey(reg.name)
		if row != nil && row.State == storage.Interrupted {
			p.plan.Interrupted = append(p.plan.Interrupted, reg.name)
			p.left[key] = "interrupted"
			continue
		}
		if row != nil && !row.State.Over() {
			p.plan.InFlight = append(p.plan.InFlight, reg.name)
			p.left[key] = "in flight"
			if err := p.waiting(reg, row); err != nil {
				return err
			}
			continue
		}
		t, at, err := p.task(reg, row)
		if err != nil {
			return err
		}
		t.OutOfOrder = row == nil && reg.version < highest // one that ran before was in its place then
		if why := p.filtered(t); why != "" {
			p.leave(key, why)
			continue
		}
		if at.After(p.snap.now) {
			p.plan.Scheduled = append(p.plan.Scheduled, Later{Name: reg.name, At: at.UTC(), Tags: t.Tags, dependsOn: t.DependsOn})
			p.left[key] = "scheduled for later"
			continue
		}
		if p.opts.Repeat && !done(row) && (row == nil || row.State != storage.RolledBack) {
			never = append(never, reg.name)
		}
		p.add(key, t)
	}
	if len(never) > 0 { // S3.10: only among those the filters left
		return fmt.Errorf("%w, so it cannot be repeated: %s (run it once without repeat, or narrow with tags, from or names)",
			ErrNeverExecuted, strings.Join(never, ", "))
	}
	return nil
}

// waiting notes the time that an operation in flight has now, if it has one.
func (p *planner) waiting(reg *registration, row *storage.Effective) error {
	if row.State != storage.Pending {
		return nil
	}
	op, err := reg.fresh()
	if err != nil {
		return err
	}
	at, err := reg.executeAt(op)
	if err == nil && !at.IsZero() {
		p.plan.waiting = append(p.plan.waiting, Later{Name: reg.name, At: at.UTC(), id: row.ID})
	}
	return err
}

// task asks an operation's static abilities of a value from its factory.
func (p *planner) task(reg *registration, row *storage.Effective) (Task, time.Time, error) {
	op, err := reg.fresh()
	if err != nil {
		return Task{}, time.Time{}, err
	}
	t := Task{
		Kind: storage.Ordered, Name: reg.name, Version: reg.version,
		Async: reg.async, Conditional: reg.conditional, AllowedToFail: reg.allowedToFail,
		Undoable: reg.rollbackable, Irreversible: reg.irreversible,
	}
	if row != nil {
		t.Last = row.State
	}
	if t.DependsOn, err = reg.dependsOn(op); err != nil {
		return Task{}, time.Time{}, err
	}
	if t.Tags, err = reg.tags(op); err != nil {
		return Task{}, time.Time{}, err
	}
	list, declared, err := reg.environments(op)
	if err != nil {
		return Task{}, time.Time{}, err
	}
	if declared {
		t.Environments = list
		t.Elsewhere = !slices.Contains(list, p.snap.environment)
	}
	if !t.Elsewhere && !p.opts.unasked {
		if t.ApprovedBy, err = reg.approvedBy(op); err != nil {
			return Task{}, time.Time{}, err
		}
	}
	switch {
	case p.opts.Sync:
		t.Async = false
	case p.opts.Async:
		t.Async = true
	}
	at, err := reg.executeAt(op)
	return t, at, err
}

// filtered says why the options leave an operation out, "" if they do not.
func (p *planner) filtered(t Task) string {
	switch {
	case t.Version < p.from:
		return "older than --from"
	case len(p.opts.Only) > 0 && !slices.ContainsFunc(p.opts.Only, func(name string) bool {
		reg, ok := p.reg.lookup(name)
		return ok && reg.name == t.Name
	}):
		return "not among the named"
	case !MatchTags(p.opts.Tags, t.Tags):
		return "left out by --tags"
	}
	return ""
}

func (p *planner) leave(key, why string) {
	p.left[key] = why
	p.plan.Filtered++
}

func (p *planner) add(key string, t Task) {
	p.index[key] = len(p.plan.Tasks)
	p.plan.Tasks = append(p.plan.Tasks, t)
}

// link resolves dependencies and sorts.
func (p *planner) link() error {
	tasks := p.plan.Tasks
	for i := range tasks {
		for _, d := range tasks[i].DependsOn {
			at, err := p.resolve(tasks[i].Name, d)
			if err != nil {
				return err
			}
			if at >= 0 && !slices.Contains(tasks[i].needs, at) {
				tasks[i].needs = append(tasks[i].needs, at)
			}
		}
	}
	for i := range p.plan.Scheduled {
		l := &p.plan.Scheduled[i]
		l.ready = !slices.ContainsFunc(l.dependsOn, func(d Dependency) bool {
			_, err := p.resolve(l.Name, d)
			return err != nil
		})
	}
	needs := func(i int) []int { return tasks[i].needs }
	order, cycle := graph.Order(len(tasks), func(a, b int) bool { return compareTasks(tasks[a], tasks[b]) < 0 }, needs)
	if cycle != nil {
		path := make([]string, 0, len(cycle)+1)
		for _, i := range cycle {
			path = append(path, tasks[i].Name)
		}
		return &CycleError{Path: append(path, path[0])}
	}
	sorted := make([]Task, len(tasks))
	place := make([]int, len(tasks))
	for at, i := range order {
		place[i] = at
	}
	for i, t := range tasks {
		for k, d := range t.needs {
			t.needs[k] = place[d]
		}
		sorted[place[i]] = t
	}
	p.plan.Tasks = sorted
	return nil
}

// compareTasks is the order without dependencies: timestamp, migrations first,
// then name (S3.4).
func compareTasks(a, b Task) int {
	rank := func(t Task) int {
		if t.Kind == storage.Migration {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
}

// resolve finds the task a dependency names, -1 when it is satisfied already
// (S9.2), else an error that says which of the ways of missing it is (S9.4).
func (p *planner) resolve(name string, d Dependency) (int, error) {
	missing := func(err error, remedy string) (int, error) {
		return -1, &DependencyError{Name: name, DependsOn: d, Err: err, Remedy: remedy}
	}
	if d.Kind == storage.Migration {
		m := p.findMigration(d.Name)
		switch {
		case m == nil:
			return missing(ErrUnknownDependency, "no migration has that name; give the file's name without .sql")
		case m.Applied():
			return -1, nil
		}
		if at, ok := p.index[migrationKey(m.Name)]; ok {
			return at, nil
		}
		return missing(ErrDependencyExcluded, cmp.Or(p.left[migrationKey(m.Name)], "interrupted"))
	}
	reg, ok := p.reg.lookup(d.Name)
	if !ok {
		return missing(ErrUnknownDependency, "register it, or correct the name")
	}
	if reg.version == 0 {
		return missing(ErrUnknownDependency, "only operations whose name starts with a timestamp can be depended on")
	}
	if at, ok := p.index[operationKey(reg.name)]; ok {
		return at, nil
	}
	if done(p.newest[reg.name]) {
		return -1, nil
	}
	return missing(ErrDependencyExcluded, p.left[operationKey(reg.name)])
}

// satisfied reports whether a dependency is done already.
func (p *planner) satisfied(d Dependency) bool {
	if d.Kind == storage.Migration {
		m := p.findMigration(d.Name)
		return m != nil && m.Applied()
	}
	reg, ok := p.reg.lookup(d.Name)
	return ok && done(p.newest[reg.name])
}

// findMigration takes a migration's name with or without .sql, or its version.
func (p *planner) findMigration(name string) *migration.Migration {
	name = strings.TrimSuffix(name, ".sql")
	for i := range p.snap.migrations {
		m := &p.snap.migrations[i]
		if m.Name == name || strconv.FormatInt(m.Version, 10) == name {
			return m
		}
	}
	return nil
}

func operationKey(name string) string { return "operation " + name }
func migrationKey(name string) string { return "migration " + name }
