package opentelemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// meter holds the instruments.
type meter struct {
	executions, dispatched, runs metric.Int64Counter
	duration                     metric.Float64Histogram
}

func newMeter(m metric.Meter) (meter, error) {
	var problems []error
	counter := func(name, unit, what string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(what))
		problems = append(problems, err)
		return c
	}
	duration, err := m.Float64Histogram("sequencer.attempt.duration", metric.WithUnit("s"),
		metric.WithDescription("How long attempts ran."),
		metric.WithExplicitBucketBoundaries(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 7200))
	problems = append(problems, err)
	return meter{
		executions: counter("sequencer.executions", "{execution}", "Outcomes of attempts, as they became durable."),
		dispatched: counter("sequencer.dispatched", "{execution}", "Executions written to the ledger."),
		runs:       counter("sequencer.runs", "{run}", "Deploy runs that ended."),
		duration:   duration,
	}, errors.Join(problems...)
}

// observe counts an event.
func (m *meter) observe(ctx context.Context, e *sequencer.Event) {
	name := e.Name
	if e.Operation == storage.Migration {
		name = string(storage.Migration)
	}
	outcome := keyOutcome.String(string(e.Kind))
	switch {
	case e.Kind == sequencer.EventQueued:
		m.dispatched.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(keyName.String(name))))
	case e.Kind.EndsAttempt():
		by := metric.WithAttributeSet(attribute.NewSet(keyName.String(name), outcome))
		m.executions.Add(ctx, 1, by)
		if e.Elapsed > 0 {
			m.duration.Record(ctx, e.Elapsed.Seconds(), by)
		}
	case e.Kind == sequencer.EventRunEnded:
		m.runs.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(keyOutcome.String(string(e.State)))))
	}
}
