// Package opentelemetry tells OpenTelemetry what a sequencer does: a span for each attempt,
// linked with whoever dispatched the execution, a span for each deploy run around what it
// runs, and counters and histograms of operations. It uses the API alone; the SDK, its
// exporters and what they cost are the program's to choose.
//
//	t, err := opentelemetry.New(opentelemetry.Options{Tracers: tracerProvider, Meters: meterProvider})
//	…
//	var cfg sequencer.Config
//	err = t.Configure(&cfg)
//	seq, err := sequencer.New(store, registry, cfg)
//
// # Traces
//
// A dispatch writes the identity of the span it happens in into the execution's row
// (W3C Trace Context), and that span gets an event. Each attempt, perhaps days later and on
// another machine, is a span of kind consumer, the root of a trace of its own, with a link to
// that span: what is retried for a week would make one trace unreadable. With
// Options.JoinTraces it is a child of that span instead. In a deploy run an attempt is a child
// of the run's span. Spans that a handler begins with its context are children of the
// attempt's.
//
// Attributes follow the semantic conventions of messaging where there is one for a thing
// (messaging.system, messaging.operation.type, messaging.message.id) and are called
// sequencer.* elsewhere. Inputs, results and reasons of skips are in none.
//
// # Metrics
//
//	sequencer.executions        counter, by sequencer.operation and sequencer.outcome
//	sequencer.dispatched        counter, by sequencer.operation
//	sequencer.attempt.duration  histogram in seconds, by sequencer.operation and sequencer.outcome
//	sequencer.runs              counter, by sequencer.outcome
//
// An outcome is the kind of a [sequencer.Event]: completed, failed, retrying, released,
// skipped, cancelled, interrupted, rolled_back, rollback_failed, fenced. Operations are the
// registered names and migrations count under their kind, so there are as many series as
// that makes (Q8); tags are in none.
package opentelemetry
