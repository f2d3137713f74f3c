package sequencer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/internal/cron"
)

// maxMissed bounds how many missed ticks of a schedule are made up for.
const maxMissed = 1000

// Schedule has an operation dispatched again and again:
//
//	sequencer.Schedule(reg, "nightly_report", "0 3 * * *", &Report{}, sequencer.InZone("Europe/Berlin"), sequencer.OnQueue("low"))
//
// The name is the schedule's own; it need not be the operation's. spec is a cron
// expression of five fields, or six with seconds in front, a word such as @daily,
// or an interval as in "@every 90s", which counts from midnight UTC and not from
// when anybody started. It is read in UTC unless [InZone] says otherwise. Where the
// zone's clocks jump forward over a time, that tick comes as much later; where they
// are set back, it comes at the first of the two times, unless the hours are *,
// which keeps a pace rather than a time of day.
//
// op is any value that can be dispatched, [Named] and [With] among them, or one for
// each tick made by [ForTick]. What it declares is asked at each tick, as at any
// dispatch. It must not be an ordered operation, of which there is one execution
// per ledger.
//
// Workers do it (see [Sequencer.Work]), whatever queues they serve: however many
// there are, the store lets one dispatch through per tick. A tick does not wait for
// the one before; where two must not run at once, make the operation unique. Ticks
// that came while no worker ran, while the schedule was paused, or while a guard
// was closed are missed: see [RunMissed] and [SkipMissed].
//
// The ledger keeps a row per schedule that tells how far it has fired. Of several
// builds the newest one's declaration counts while a worker of it lives. What is
// declared no more stays in the ledger, is shown as orphaned, and fires no more.
// Whatever is wrong comes back from New, all at once.
func Schedule(reg *Registry, name, spec string, op Operation, opts ...ScheduleOption) {
	_, file, line, _ := runtime.Caller(1)
	d := &schedule{name: strings.TrimSpace(name), missed: 1, file: file, line: line}
	if err := checkIdentifier("schedule name", d.name); err != nil {
		d.problemf("%w", err)
	}
	for _, o := range opts {
		if o == nil {
			d.problemf("a nil option: leave it out")
			continue
		}
		o.schedule(d)
	}
	var err error
	if d.when, err = cron.Parse(spec, d.zone); err != nil {
		d.problemf("%.300q: %w", spec, err)
	}
	if op == nil {
		d.problemf("a nil operation: hand over what is to be dispatched")
	}
	d.work = op
	reg.addSchedule(d)
}

// ScheduleOption says how a schedule fires. Every DispatchOption is one, and
// concerns each of its dispatches; Delay and At are refused, the schedule says when.
type ScheduleOption interface{ schedule(*schedule) }

type scheduleOption func(*schedule)

func (o scheduleOption) schedule(d *schedule) { o(d) }

// InZone names the time zone an expression is read in, as the IANA database has
// it: Europe/Berlin. Default UTC. An interval has none.
func InZone(name string) ScheduleOption {
	return scheduleOption(func(d *schedule) {
		d.zone = strings.TrimSpace(name)
		if d.zone == "" {
			d.problemf("the time zone is empty: name one, or leave InZone out for UTC")
		}
	})
}

// RunMissed makes up for missed ticks: for the newest n of them, oldest first, at
// most 1,000. The default is 1: after any downtime a schedule fires once.
func RunMissed(n int) ScheduleOption {
	return scheduleOption(func(d *schedule) {
		d.missed = n
		if n < 1 || n > maxMissed {
			d.problemf("RunMissed(%d): want 1 to %d, or SkipMissed", n, maxMissed)
		}
	})
}

// SkipMissed lets missed ticks go: the schedule goes on with the next one. A tick
// that is less than a minute late, and that no other has followed, is not missed.
func SkipMissed() ScheduleOption {
	return scheduleOption(func(d *schedule) { d.missed = 0 })
}

// ForTick has fn make the operation for each tick of a schedule, for work that has
// to know which tick it is for, such as a report of the day before. fn must be free
// of side effects: New calls it as well, and so does whoever comes second.
func ForTick(fn func(tick time.Time) Operation) Operation { return &tickOperation{fn} }

type tickOperation struct{ make func(time.Time) Operation }

func (*tickOperation) Handle(context.Context) error { return errNotDispatched("of ForTick") }

// schedule is one declaration. It is read-only once it is in a registry.
type schedule struct {
	name   string
	zone   string
	when   *cron.Expression // nil where it could not be read
	work   Operation
	opts   []DispatchOption
	missed int // how many missed ticks fire; 0 = none

	file     string
	line     int
	problems []error
}

// operation is what a tick dispatches.
func (d *schedule) operation(tick time.Time) (op Operation, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("its ForTick function panics: %v", v)
		}
	}()
	inner, opts := unwrap(d.work)
	if t, ok := inner.(*tickOperation); ok {
		if t.make == nil {
			return nil, errors.New("ForTick(nil): give it a function")
		}
		if inner = t.make(tick); inner == nil {
			return nil, errors.New("its ForTick function returns nil: make it return an operation")
		}
	}
	return With(inner, slices.Concat(opts, d.opts)...), nil
}

// missedText is how the ledger and people see the policy for missed ticks.
func (d *schedule) missedText() string {
	switch d.missed {
	case 0:
		return "skip"
	case 1:
		return "once"
	default:
		return fmt.Sprintf("all %d", d.missed)
	}
}

func (d *schedule) place() string { return fmt.Sprintf("%s:%d", filepath.Base(d.file), d.line) }

func (d *schedule) wrap(err error) error {
	name := d.name
	if checkIdentifier("name", name) != nil {
		name = fmt.Sprintf("%.40q", name)
	}
	return fmt.Errorf("schedule %s at %s: %w", name, d.place(), err)
}

func (d *schedule) problemf(format string, args ...any) {
	d.problems = append(d.problems, d.wrap(fmt.Errorf(format, args...)))
}

// addSchedule files the declaration, problems or not.
func (r *Registry) addSchedule(d *schedule) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.schedules {
		if o.name == d.name && d.name != "" {
			d.problemf("the name is taken by the schedule at %s: choose another", o.place())
			break
		}
	}
	r.schedules = append(r.schedules, d)
	r.problems = append(r.problems, d.problems...)
}
