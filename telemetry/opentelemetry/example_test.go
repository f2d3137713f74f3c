package opentelemetry_test

import (
	"context"
	"fmt"
	"log"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/telemetry/opentelemetry"
)

func Example() {
	spans := tracetest.NewSpanRecorder() // your exporter, in a program
	tracers := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	meters := metric.NewMeterProvider()

	telemetry, err := opentelemetry.New(opentelemetry.Options{Tracers: tracers, Meters: meters})
	if err != nil {
		log.Fatal(err)
	}
	var cfg sequencer.Config
	if err := telemetry.Configure(&cfg); err != nil {
		log.Fatal(err)
	}

	reg := sequencer.NewRegistry()
	sequencer.RegisterFunc(reg, "20260101120000_seed_users", func(context.Context) error { return nil })
	seq, err := sequencer.New(memory.New(), reg, cfg)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := seq.Process(context.Background(), sequencer.RunOptions{}); err != nil {
		log.Fatal(err)
	}
	for _, span := range spans.Ended() {
		fmt.Println(span.Name())
	}
	// Output:
	// process 20260101120000_seed_users
	// run sequential
}
