package sequencer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/internal/cron"
	"github.com/gosequencer/sequencer/storage"
)

// methodSchedule is the method of what ticks dispatch.
const methodSchedule = "schedule"

// boundSchedule is a declaration whose operation has been found.
type boundSchedule struct {
	*schedule
	definition storage.Schedule // as it is announced
	elsewhere  bool             // its operation is not for this environment
}

// bindSchedules gives every connection its schedules, and returns what is wrong
// with any, beyond what was found when it was declared.
func (s *Sequencer) bindSchedules() error {
	var problems []error
	for _, d := range s.reg.schedules {
		if len(d.problems) > 0 { // reported already
			continue
		}
		on, b, err := s.bind(d)
		if errors.Is(err, errNoFactory) {
			continue
		}
		if err != nil {
			problems = append(problems, d.wrap(err))
		} else if b != nil {
			on.schedules = append(on.schedules, b)
		}
	}
	for _, o := range s.all {
		slices.SortFunc(o.schedules, func(a, b *boundSchedule) int { return cmp.Compare(a.name, b.name) })
	}
	return errors.Join(problems...)
}

// bind finds all that can be wrong with what a tick would dispatch. It answers nil
// for an operation that is itself reported already.
//
//nolint:contextcheck,nolintlint // New, which is all that calls it, has no context; contextcheck reads this itself
func (s *Sequencer) bind(d *schedule) (*Sequencer, *boundSchedule, error) {
	at := d.when.Next(time.Now())
	op, err := d.operation(at)
	if err != nil {
		return nil, nil, err
	}
	reg, value, _, err := s.reg.resolve(op)
	if err != nil || len(reg.problems) > 0 {
		return nil, nil, err
	}
	row, on, err := s.tickRow(context.Background(), d, at)
	if err != nil {
		return nil, nil, err
	}
	environments, bound, err := reg.environments(value)
	return on, &boundSchedule{
		schedule: d,
		definition: storage.Schedule{
			Name: d.name, Spec: d.when.String(), Zone: d.when.Zone(), Operation: row.Name, Queue: row.Queue,
			Missed: d.missedText(), Build: s.cfg.Build,
		},
		elsewhere: bound && !slices.Contains(environments, s.cfg.Environment),
	}, err
}

// tickRow makes the row that a tick enqueues, and says on which connection it
// belongs.
func (s *Sequencer) tickRow(ctx context.Context, d *schedule, at time.Time) (storage.Execution, *Sequencer, error) {
	op, err := d.operation(at)
	if err != nil {
		return storage.Execution{}, nil, err
	}
	reg, _, request, err := s.reg.resolve(op)
	switch {
	case err != nil:
		return storage.Execution{}, nil, err
	case reg.ordered:
		return storage.Execution{}, nil, fmt.Errorf("%s is an ordered operation, of which there is one execution per ledger: "+
			"schedule one whose name has no timestamp", reg.name)
	case request.scheduled:
		return storage.Execution{}, nil, errors.New("the schedule says when: leave Delay and At out")
	}
	return s.execution(ctx, op, methodSchedule)
}

// Standing says how a schedule is.
type Standing string

const (
	ScheduleActive    Standing = "active"
	SchedulePaused    Standing = "paused"
	ScheduleNew       Standing = "new"       // declared by this build; the next worker of it makes it known
	ScheduleChanged   Standing = "changed"   // as this build declares it; the ledger has another declaration until a worker of this build starts
	ScheduleElsewhere Standing = "elsewhere" // its operation is not for this environment
	ScheduleNewer     Standing = "newer"     // declared by a newer build than this one, and not by this one
	ScheduleOrphaned  Standing = "orphaned"  // in the ledger, and declared no more
)

// ScheduleState is a schedule as ledger and this build know it.
type ScheduleState struct {
	storage.Schedule
	Standing Standing `json:"standing"`
	// Next is when it is due next, by this process's clock; zero while it does not fire.
	Next time.Time `json:"next,omitzero"`
	// LastState is that of the last tick's execution. It is empty where there was none,
	// where uniqueness left it out, and once it is pruned.
	LastState storage.State `json:"last_state,omitempty"`
}

// Schedules lists those of the ledger and of this build, by name. It writes
// nothing.
func (s *Sequencer) Schedules(ctx context.Context) ([]ScheduleState, error) {
	rows, err := s.store.Schedules(ctx)
	if err != nil && !noLedger(err) {
		return nil, fmt.Errorf("reading schedules: %w", err)
	}
	states := make([]ScheduleState, 0, len(rows))
	for _, row := range rows {
		states = append(states, ScheduleState{Schedule: row})
	}
	for _, b := range s.schedules {
		if !slices.ContainsFunc(rows, func(row storage.Schedule) bool { return row.Name == b.name }) {
			states = append(states, ScheduleState{Schedule: b.definition, Standing: ScheduleNew})
		}
	}
	slices.SortFunc(states, func(a, b ScheduleState) int { return cmp.Compare(a.Name, b.Name) })
	now := time.Now()
	for i := range states {
		s.stand(&states[i], now)
	}
	return states, s.readLast(ctx, states)
}

// stand compares a schedule with what this build declares.
func (s *Sequencer) stand(st *ScheduleState, now time.Time) {
	b := s.scheduleNamed(st.Name)
	switch {
	case b == nil && st.Build > s.cfg.Build:
		st.Standing = ScheduleNewer
	case b == nil:
		st.Standing = ScheduleOrphaned
	case b.elsewhere:
		st.Standing = ScheduleElsewhere
	case st.Standing == ScheduleNew:
	case st.Build <= s.cfg.Build && !b.declares(st.Schedule):
		d := b.definition
		st.Spec, st.Zone, st.Operation, st.Queue, st.Missed = d.Spec, d.Zone, d.Operation, d.Queue, d.Missed
		st.Standing = ScheduleChanged
	default:
		st.Standing = ScheduleActive
	}
	if st.Paused {
		st.Standing = SchedulePaused
	}
	switch st.Standing {
	case ScheduleActive, ScheduleNew, ScheduleChanged:
		if when, err := cron.Parse(st.Spec, st.Zone); err == nil {
			st.Next = when.Next(later(now, st.LastTick))
		}
	case SchedulePaused, ScheduleElsewhere, ScheduleNewer, ScheduleOrphaned:
	}
}

// declares reports whether the ledger's definition is b's, whatever build it is of.
func (b *boundSchedule) declares(row storage.Schedule) bool {
	d := b.definition
	return d.Spec == row.Spec && d.Zone == row.Zone && d.Operation == row.Operation && d.Queue == row.Queue && d.Missed == row.Missed
}

// readLast fills in how the last executions stand.
func (s *Sequencer) readLast(ctx context.Context, states []ScheduleState) error {
	var ids []storage.ID
	for _, st := range states {
		if !st.LastID.IsZero() {
			ids = append(ids, st.LastID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := s.store.Executions(ctx, storage.Filter{IDs: ids, Limit: len(ids)})
	if err != nil {
		return fmt.Errorf("reading the last executions of schedules: %w", err)
	}
	for i := range states {
		for _, row := range rows {
			if row.ID == states[i].LastID {
				states[i].LastState = row.State
			}
		}
	}
	return nil
}

// NextTicks are the next n instants at which a schedule is due, in its time zone,
// paused or not.
func (s *Sequencer) NextTicks(ctx context.Context, name string, n int) ([]time.Time, error) {
	st, err := s.knownSchedule(ctx, name)
	if err != nil {
		return nil, err
	}
	when, err := cron.Parse(st.Spec, st.Zone)
	if err != nil {
		return nil, fmt.Errorf("schedule %s: %q: %w", name, st.Spec, err)
	}
	zone, err := time.LoadLocation(st.Zone)
	if err != nil {
		return nil, err
	}
	var ticks []time.Time
	for at := later(time.Now(), st.LastTick); len(ticks) < n; {
		if at = when.Next(at); at.IsZero() {
			break
		}
		ticks = append(ticks, at.In(zone))
	}
	return ticks, nil
}

// RunSchedule dispatches what a schedule of this build dispatches, at once and
// whatever its ticks: they go on as if it had not been. It is for now where ForTick
// asks. reason goes into the audit log, in the write that dispatches it; what is in flight
// already dispatches nothing, and is not audited.
func (s *Sequencer) RunSchedule(ctx context.Context, name, reason string) (Receipt, error) {
	b := s.scheduleNamed(name)
	if b == nil {
		if _, err := s.knownSchedule(ctx, name); err != nil {
			return Receipt{}, err
		}
		return Receipt{}, fmt.Errorf("schedule %s is in the ledger and this build does not declare it: execute its operation instead", name)
	}
	op, err := b.operation(time.Now().UTC())
	if err != nil {
		return Receipt{}, b.wrap(err)
	}
	receipts, err := s.enqueue(ctx, nil, []Operation{op}, &storage.AuditEntry{
		Actor: s.cfg.Actor, Action: storage.AuditRunSchedule, Reason: reason,
		Target: storage.Pause{Kind: storage.PauseSchedule, Name: name}.Target(),
	})
	if err != nil {
		return Receipt{}, err
	}
	return receipts[0], nil
}

func (s *Sequencer) scheduleNamed(name string) *boundSchedule {
	for _, b := range s.schedules {
		if b.name == name {
			return b
		}
	}
	return nil
}

// knownSchedule finds a schedule of the ledger or of this build.
func (s *Sequencer) knownSchedule(ctx context.Context, name string) (ScheduleState, error) {
	states, err := s.Schedules(ctx)
	if err != nil {
		return ScheduleState{}, err
	}
	names := make([]string, len(states))
	for i, st := range states {
		if names[i] = st.Name; st.Name == name {
			return st, nil
		}
	}
	return ScheduleState{}, unknownSchedule(name, similar(name, names))
}

func unknownSchedule(name string, candidates []string) error {
	if len(candidates) > 0 {
		return fmt.Errorf("schedule %q: %w: do you mean %s?", name, storage.ErrNotFound, strings.Join(candidates, " or "))
	}
	return fmt.Errorf("schedule %q: %w: neither the ledger nor this build has one of that name", name, storage.ErrNotFound)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
