package prometheus_test

import (
	"log"
	"net/http"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/telemetry/prometheus"
)

func Example() {
	collector := prometheus.New(prometheus.Options{})
	cfg := sequencer.Config{Observers: []sequencer.Observer{collector.Observe}}
	seq, err := sequencer.New(memory.New(), sequencer.NewRegistry(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	collector.Watch(seq)
	client.MustRegister(collector)
	http.Handle("GET /metrics", promhttp.Handler())
	// Output:
}
