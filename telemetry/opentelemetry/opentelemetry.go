package opentelemetry

import (
	"context"
	"errors"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// Scope is the name under which tracer and meter are asked for.
const Scope = "github.com/gosequencer/sequencer"

// Attributes of spans and metrics.
const (
	keySystem    = attribute.Key("messaging.system")
	keyOperation = attribute.Key("messaging.operation.type")
	keyMessage   = attribute.Key("messaging.message.id")

	keyName    = attribute.Key("sequencer.operation")
	keyOutcome = attribute.Key("sequencer.outcome")
	keyAttempt = attribute.Key("sequencer.attempt")
	keyRun     = attribute.Key("sequencer.run")
	keyMethod  = attribute.Key("sequencer.method")
	keyTasks   = attribute.Key("sequencer.tasks")
	keyTags    = attribute.Key("sequencer.tags")
)

var system = keySystem.String("sequencer")

// Options are where the telemetry goes.
type Options struct {
	// Tracers make the tracer; nil = no traces.
	Tracers trace.TracerProvider
	// Meters make the meter; nil = no metrics.
	Meters metric.MeterProvider
	// JoinTraces makes attempts children of the span they were dispatched in, in its trace.
	// By default each has a trace of its own, which is linked to it.
	JoinTraces bool
}

// Telemetry is safe for concurrent use. Several sequencers may share one.
type Telemetry struct {
	tracer trace.Tracer
	meter  meter
	join   bool

	mu   sync.Mutex // guards runs
	runs map[string]trace.Span
}

// New fails if the meter refuses an instrument.
func New(o Options) (*Telemetry, error) {
	if o.Tracers == nil {
		o.Tracers = tracenoop.NewTracerProvider()
	}
	if o.Meters == nil {
		o.Meters = metricnoop.NewMeterProvider()
	}
	m, err := newMeter(o.Meters.Meter(Scope))
	if err != nil {
		return nil, err
	}
	return &Telemetry{tracer: o.Tracers.Tracer(Scope), meter: m, join: o.JoinTraces, runs: map[string]trace.Span{}}, nil
}

// Configure has a sequencer tell t what it does. Its middleware becomes the outermost, so
// that an attempt's span is around all others; call it last. Texts of errors are redacted as
// the configuration says. A configuration that has Carry set already is refused: there is one
// text that executions take along.
func (t *Telemetry) Configure(cfg *sequencer.Config) error {
	if cfg.Carry != nil {
		return errors.New("opentelemetry: Config.Carry is set already: traces need it")
	}
	redact := cfg.Redact
	if redact == nil {
		redact = func(text string) string { return text }
	}
	cfg.Carry = t.carry
	cfg.Observers = append(slices.Clip(cfg.Observers), func(ctx context.Context, e sequencer.Event) { t.observe(ctx, e, redact) })
	cfg.Middleware = append([]sequencer.Middleware{sequencer.MiddlewareFunc(t.wrap)}, cfg.Middleware...)
	return nil
}

var w3c propagation.TraceContext

// carry is the identity of the span that a dispatch happens in.
func (t *Telemetry) carry(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	c := propagation.MapCarrier{}
	w3c.Inject(trace.ContextWithSpanContext(ctx, sc.WithTraceState(trace.TraceState{})), c) // a state may be too long for a row
	return c.Get("traceparent")
}

// wrap has each attempt in a span.
func (t *Telemetry) wrap(next sequencer.Handler) sequencer.Handler {
	return func(ctx context.Context, a *sequencer.Attempt) error {
		attributes := []attribute.KeyValue{
			system, keyOperation.String("process"), keyMessage.String(a.ID), keyName.String(a.Name), keyAttempt.Int(a.Number),
		}
		if a.RunID != "" {
			attributes = append(attributes, keyRun.String(a.RunID))
		}
		if len(a.Tags) > 0 {
			attributes = append(attributes, keyTags.StringSlice(a.Tags))
		}
		what := "process "
		if a.Undo {
			what = "roll back "
		}
		options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attributes...)}
		from := carried(ctx, a)
		if from.IsValid() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: from}))
		}
		ctx, span := t.tracer.Start(t.place(ctx, a.RunID, from), what+a.Name, options...)
		returned := false
		var err error
		defer func() {
			if !returned { // it panicked, or ended its goroutine; what with, the ledger says
				failed(span, "the handler did not return")
			} else {
				note(span, a, err)
			}
			span.End()
		}()
		err = next(ctx, a)
		returned = true
		return err
	}
}

// place is the context that decides whose child an attempt's span is.
func (t *Telemetry) place(ctx context.Context, runID string, from trace.SpanContext) context.Context {
	t.mu.Lock()
	run, inRun := t.runs[runID]
	t.mu.Unlock()
	switch {
	case inRun:
		return trace.ContextWithSpan(ctx, run)
	case t.join && from.IsValid():
		return trace.ContextWithRemoteSpanContext(ctx, from)
	default:
		return nowhere(ctx)
	}
}

// carried is the span that an attempt's execution was dispatched in.
func carried(ctx context.Context, a *sequencer.Attempt) trace.SpanContext {
	return trace.SpanContextFromContext(w3c.Extract(nowhere(ctx), propagation.MapCarrier{"traceparent": a.Carried()}))
}

// nowhere is a context in no span.
func nowhere(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.SpanContext{})
}

// note says on a span how it ended. What is put off, skipped or told to stop has not failed.
func note(span trace.Span, a *sequencer.Attempt, err error) {
	switch {
	case err == nil:
	case sequencer.IsFailure(err):
		failed(span, a.ErrorText(err))
	default:
		span.SetAttributes(keyOutcome.String("deferred"))
	}
}

func failed(span trace.Span, text string, at ...trace.EventOption) {
	span.AddEvent("exception", append(at, trace.WithAttributes(attribute.String("exception.message", text)))...)
	span.SetStatus(codes.Error, "")
}

// observe makes spans of runs and migrations, which no middleware sees, and counts.
func (t *Telemetry) observe(ctx context.Context, e sequencer.Event, redact func(string) string) {
	t.meter.observe(ctx, &e)
	switch e.Kind { //nolint:exhaustive // the others are in spans of attempts
	case sequencer.EventRunStarted:
		_, span := t.tracer.Start(ctx, "run "+e.Method, trace.WithTimestamp(e.At),
			trace.WithAttributes(system, keyRun.String(e.RunID), keyMethod.String(e.Method), keyTasks.Int(e.Tasks)))
		t.mu.Lock()
		t.runs[e.RunID] = span
		t.mu.Unlock()
	case sequencer.EventRunEnded, sequencer.EventRunDetached:
		t.mu.Lock()
		span, known := t.runs[e.RunID]
		delete(t.runs, e.RunID)
		t.mu.Unlock()
		if known {
			span.SetAttributes(keyOutcome.String(string(e.State)))
			end(span, &e, redact)
		}
	case sequencer.EventQueued:
		trace.SpanFromContext(ctx).AddEvent("sequencer.queued", trace.WithAttributes(keyMessage.String(e.ID), keyName.String(e.Name)))
	case sequencer.EventFlowDispatched:
		trace.SpanFromContext(ctx).AddEvent("sequencer.flow_dispatched",
			trace.WithAttributes(keyMessage.String(e.ID), keyName.String(e.Name), keyMethod.String(e.Method), keyTasks.Int(e.Tasks)))
	case sequencer.EventCompleted, sequencer.EventFailed:
		if e.Operation == storage.Migration {
			t.migration(ctx, &e, redact)
		}
	}
}

// migration makes the span of one that is over.
func (t *Telemetry) migration(ctx context.Context, e *sequencer.Event, redact func(string) string) {
	t.mu.Lock()
	run, inRun := t.runs[e.RunID]
	t.mu.Unlock()
	if inRun {
		ctx = trace.ContextWithSpan(ctx, run)
	}
	_, span := t.tracer.Start(ctx, "migrate "+e.Name, trace.WithTimestamp(e.At.Add(-e.Elapsed)),
		trace.WithAttributes(system, keyMessage.String(e.ID), keyName.String(e.Name), keyRun.String(e.RunID), keyOutcome.String(string(e.Kind))))
	end(span, e, redact)
}

// end ends a span when its event says it was over.
func end(span trace.Span, e *sequencer.Event, redact func(string) string) {
	text := e.Reason
	if e.Err != nil {
		text = e.Err.Error()
	}
	if e.Err != nil || e.State == storage.Failed {
		failed(span, redact(text), trace.WithTimestamp(e.At))
	}
	span.End(trace.WithTimestamp(e.At))
}
