package opentelemetry_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/seal"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/telemetry/opentelemetry"
)

// lab is a sequencer whose telemetry is kept.
type lab struct {
	*sequencer.Sequencer
	t       *testing.T
	reg     *sequencer.Registry
	cfg     sequencer.Config
	spans   *tracetest.SpanRecorder
	tracers *trace.TracerProvider
	reader  *metric.ManualReader
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{
		t: t, reg: sequencer.NewRegistry(), spans: tracetest.NewSpanRecorder(), reader: metric.NewManualReader(),
		cfg: sequencer.Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))},
	}
	l.tracers = trace.NewTracerProvider(trace.WithSpanProcessor(l.spans))
	return l
}

func (l *lab) open(o opentelemetry.Options) {
	l.t.Helper()
	o.Tracers, o.Meters = l.tracers, metric.NewMeterProvider(metric.WithReader(l.reader))
	telemetry, err := opentelemetry.New(o)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := telemetry.Configure(&l.cfg); err != nil {
		l.t.Fatal(err)
	}
	if err := telemetry.Configure(&l.cfg); err == nil {
		l.t.Error("a second telemetry took the place of the first one's trace")
	}
	if l.Sequencer, err = sequencer.New(memory.New(), l.reg, l.cfg); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) work() {
	l.t.Helper()
	if err := l.Work(l.t.Context(), sequencer.WorkerConfig{StopWhenEmpty: true}); err != nil {
		l.t.Fatal(err)
	}
}

// named are the spans of a name, in the order they ended.
func (l *lab) named(name string) []trace.ReadOnlySpan {
	return slices.DeleteFunc(l.spans.Ended(), func(s trace.ReadOnlySpan) bool { return s.Name() != name })
}

// counts are the sums of a metric by the values of its attributes.
func (l *lab) counts(name string) map[string]int64 {
	l.t.Helper()
	var all metricdata.ResourceMetrics
	if err := l.reader.Collect(l.t.Context(), &all); err != nil {
		l.t.Fatal(err)
	}
	got := map[string]int64{}
	by := func(set attribute.Set) string {
		var values []string
		for _, kv := range set.ToSlice() {
			values = append(values, kv.Value.AsString())
		}
		return strings.Join(values, " ")
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					got[by(p.Attributes)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					got[by(p.Attributes)] = int64(p.Count)
				}
			}
		}
	}
	return got
}

var errBoom = errors.New("boom at 4711-secret")

func TestAttemptsAreLinkedWithTheirDispatch(t *testing.T) {
	t.Parallel()
	for _, join := range []bool{false, true} {
		l := newLab(t)
		sequencer.RegisterFunc(l.reg, "twice", func(ctx context.Context) error {
			_, inner := l.tracers.Tracer("handler").Start(ctx, "inside")
			defer inner.End()
			if sequencer.Current(ctx).Number == 1 {
				return errBoom
			}
			return nil
		}, sequencer.Tries(2), sequencer.Tagged("blue"))
		l.open(opentelemetry.Options{JoinTraces: join})
		ctx, caller := l.tracers.Tracer("test").Start(t.Context(), "request")
		receipt, err := l.Dispatch(ctx, sequencer.Named("twice", nil))
		if err != nil {
			t.Fatal(err)
		}
		caller.End()
		l.work()

		request, attempts, inside := l.named("request")[0], l.named("process twice"), l.named("inside")
		if len(attempts) != 2 || len(inside) != 2 {
			t.Fatalf("%d spans of attempts and %d inside, want 2 of each", len(attempts), len(inside))
		}
		if e := request.Events(); len(e) != 1 || e[0].Name != "sequencer.queued" {
			t.Errorf("the request's events are %v", e)
		}
		for i, s := range attempts {
			if links := s.Links(); len(links) != 1 || links[0].SpanContext.SpanID() != request.SpanContext().SpanID() || links[0].SpanContext.TraceID() != request.SpanContext().TraceID() {
				t.Errorf("attempt %d has the links %v", i+1, links)
			}
			if joined := s.SpanContext().TraceID() == request.SpanContext().TraceID(); joined != join {
				t.Errorf("attempt %d is in the request's trace: %t, want %t", i+1, joined, join)
			}
			if inside[i].Parent().SpanID() != s.SpanContext().SpanID() {
				t.Errorf("what the handler of attempt %d began is no child of it", i+1)
			}
			for _, want := range []attribute.KeyValue{
				attribute.String("messaging.system", "sequencer"), attribute.String("messaging.message.id", receipt.ID),
				attribute.Int("sequencer.attempt", i+1), attribute.StringSlice("sequencer.tags", []string{"blue"}),
			} {
				if !slices.ContainsFunc(s.Attributes(), func(kv attribute.KeyValue) bool {
					return kv.Key == want.Key && kv.Value.String() == want.Value.String()
				}) {
					t.Errorf("attempt %d has the attributes %v, want %v", i+1, s.Attributes(), want)
				}
			}
		}
		if attempts[0].Status().Code != codes.Error || attempts[1].Status().Code != codes.Unset {
			t.Errorf("the attempts ended as %v and %v", attempts[0].Status(), attempts[1].Status())
		}
		if got := l.counts("sequencer.executions"); got["twice retrying"] != 1 || got["twice completed"] != 1 || len(got) != 2 {
			t.Errorf("sequencer.executions: %v", got)
		}
		if got := l.counts("sequencer.dispatched"); got["twice"] != 1 {
			t.Errorf("sequencer.dispatched: %v", got)
		}
		if got := l.counts("sequencer.attempt.duration"); got["twice completed"] != 1 {
			t.Errorf("sequencer.attempt.duration: %v", got)
		}
	}
}

// Of an encrypted operation a trace tells no more than a log does, and all texts are redacted.
func TestSecretsAreInNoSpan_Q7_3(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	file, err := seal.NewFile("2026")
	if err != nil {
		t.Fatal(err)
	}
	if l.cfg.Sealer, err = file.Ring(); err != nil {
		t.Fatal(err)
	}
	l.cfg.Redact = func(s string) string { return strings.ReplaceAll(s, "4711-secret", "…") }
	sequencer.RegisterFunc(l.reg, "20240101000000_run", func(context.Context) error { return errBoom })
	sequencer.RegisterFunc(l.reg, "fails", func(context.Context) error { return errBoom })
	sequencer.RegisterFunc(l.reg, "sealed", func(context.Context) error { return errors.New("of an unredacted secret") }, sequencer.Mark[sequencer.Encrypted]())
	sequencer.RegisterFunc(l.reg, "panics", func(context.Context) error { panic("4711-secret") })
	sequencer.RegisterFunc(l.reg, "waits", func(context.Context) error { return sequencer.Skip("not today") })
	l.open(opentelemetry.Options{})
	for _, name := range []string{"fails", "sealed", "panics", "waits"} {
		if _, err := l.Dispatch(t.Context(), sequencer.Named(name, nil)); err != nil {
			t.Fatal(err)
		}
	}
	l.work()
	if _, err := l.Process(t.Context(), sequencer.RunOptions{}); err == nil {
		t.Fatal("the run succeeded")
	}
	texts := 0
	for _, s := range l.spans.Ended() {
		for _, e := range s.Events() {
			for _, kv := range e.Attributes {
				if texts++; strings.Contains(kv.Value.AsString(), "secret") {
					t.Errorf("%s says %q", s.Name(), kv.Value.AsString())
				}
			}
		}
	}
	if texts < 3 {
		t.Errorf("%d texts of errors: that shows nothing", texts)
	}
	if s := l.named("process panics"); len(s) != 1 || s[0].Status().Code != codes.Error {
		t.Errorf("a panic: %v", s)
	}
	if s := l.named("process waits"); len(s) != 1 || s[0].Status().Code != codes.Unset {
		t.Errorf("a skip: %v", s)
	}
}

func TestARunIsASpanAroundItsAttempts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	began := time.Now()
	for _, name := range []string{"20240101000000_one", "20240102000000_two"} {
		sequencer.RegisterFunc(l.reg, name, func(context.Context) error { return nil })
	}
	l.open(opentelemetry.Options{})
	report, err := l.Process(t.Context(), sequencer.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	runs := l.named("run sequential")
	if len(runs) != 1 {
		t.Fatalf("%d spans of runs, want one", len(runs))
	}
	run := runs[0]
	if run.StartTime().Before(began) || run.EndTime().Before(run.StartTime()) {
		t.Errorf("the run is from %s to %s", run.StartTime(), run.EndTime())
	}
	for _, name := range []string{"process 20240101000000_one", "process 20240102000000_two"} {
		if s := l.named(name); len(s) != 1 || s[0].Parent().SpanID() != run.SpanContext().SpanID() {
			t.Errorf("%s: %v, want a child of the run %s", name, s, report.RunID)
		}
	}
	if got := l.counts("sequencer.runs"); got["completed"] != 1 {
		t.Errorf("sequencer.runs: %v", got)
	}
}
