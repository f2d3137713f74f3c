package prometheus

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// DefaultTimeout bounds how long a scrape waits for the ledger.
const DefaultTimeout = 5 * time.Second

// keyError is the attribute that all log lines have their error in.
const keyError = "error"

// Options change what is collected. The zero value works.
type Options struct {
	// Labels stand on every metric, such as the name of the application.
	Labels map[string]string
	// Timeout bounds how long a scrape waits for the ledger; default DefaultTimeout. Without an
	// answer sequencer_up is 0, and what the ledger holds is left out.
	Timeout time.Duration
	// Buckets are the upper bounds of the histogram, in seconds; default from a millisecond to
	// two hours.
	Buckets []float64
}

// Collector implements the collector of client_golang. It is safe for concurrent use.
type Collector struct {
	timeout time.Duration
	seq     atomic.Pointer[sequencer.Sequencer]

	executions, dispatched, runs *prometheus.CounterVec
	duration                     *prometheus.HistogramVec

	up, executionsHeld, oldest, queueWorkers, paused, workers, slots, tasks, ready *prometheus.Desc
}

// New makes a collector that knows of no ledger yet: see Watch.
func New(o Options) *Collector {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if len(o.Buckets) == 0 {
		o.Buckets = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 7200}
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: o.Labels}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, o.Labels)
	}
	return &Collector{
		timeout:    o.Timeout,
		executions: counter("sequencer_executions_total", "Outcomes of attempts in this process, as they became durable.", "operation", "outcome"),
		dispatched: counter("sequencer_dispatched_total", "Executions that this process wrote to the ledger.", "operation"),
		runs:       counter("sequencer_runs_total", "Deploy runs that ended in this process.", "outcome"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sequencer_attempt_duration_seconds", Help: "How long attempts ran in this process.", ConstLabels: o.Labels, Buckets: o.Buckets,
		}, []string{"operation", "outcome"}),

		up:             gauge("sequencer_up", "1 = the ledger answered."),
		executionsHeld: gauge("sequencer_queue_executions", "Executions that a queue holds.", "queue", "state"),
		oldest:         gauge("sequencer_queue_oldest_seconds", "How long the oldest execution that is ready has been due.", "queue"),
		queueWorkers:   gauge("sequencer_queue_workers", "Live workers that serve a queue.", "queue"),
		paused:         gauge("sequencer_queue_paused", "1 = somebody has paused the queue.", "queue"),
		workers:        gauge("sequencer_workers", "Live workers."),
		slots:          gauge("sequencer_slots", "How many attempts live workers make at a time at most."),
		tasks:          gauge("sequencer_deploy_tasks", "Operations and migrations that stand in the way of a deploy.", "state"),
		ready:          gauge("sequencer_deploy_ready", "1 = everything that is to run at deploy time is done."),
	}
}

// Watch has the collector read a ledger. The last one given counts.
func (c *Collector) Watch(seq *sequencer.Sequencer) { c.seq.Store(seq) }

// Observe counts an event. It is a [sequencer.Observer].
func (c *Collector) Observe(_ context.Context, e sequencer.Event) {
	name, outcome := e.Name, string(e.Kind)
	if e.Operation == storage.Migration {
		name = string(storage.Migration)
	}
	switch {
	case e.Kind == sequencer.EventQueued:
		c.dispatched.WithLabelValues(name).Inc()
	case e.Kind.EndsAttempt():
		c.executions.WithLabelValues(name, outcome).Inc()
		if e.Elapsed > 0 {
			c.duration.WithLabelValues(name, outcome).Observe(e.Elapsed.Seconds())
		}
	case e.Kind == sequencer.EventRunEnded:
		c.runs.WithLabelValues(string(e.State)).Inc()
	}
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, v := range c.counted() {
		v.Describe(out)
	}
	for _, d := range []*prometheus.Desc{c.up, c.executionsHeld, c.oldest, c.queueWorkers, c.paused, c.workers, c.slots, c.tasks, c.ready} {
		out <- d
	}
}

func (c *Collector) counted() []prometheus.Collector {
	return []prometheus.Collector{c.executions, c.dispatched, c.runs, c.duration}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	for _, v := range c.counted() {
		v.Collect(out)
	}
	seq := c.seq.Load()
	if seq == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	held, err := read(ctx, seq)
	if err != nil {
		seq.Config().Logger.LogAttrs(ctx, slog.LevelWarn, "the ledger was not read for Prometheus", slog.Any(keyError, err))
	}
	gauge(c.up, number(err == nil))
	if err != nil {
		return
	}
	for _, q := range held.queues {
		for state, n := range map[string]int64{"ready": q.Ready, "scheduled": q.Scheduled, "blocked": q.Blocked, "parked": q.Parked, "running": q.Running} {
			gauge(c.executionsHeld, float64(n), q.Queue, state)
		}
		gauge(c.oldest, q.Age.Seconds(), q.Queue)
		gauge(c.queueWorkers, float64(q.Workers), q.Queue)
		gauge(c.paused, number(q.Pause != nil || q.Paused), q.Queue)
	}
	workers, slots := 0, 0
	for i := range held.workers {
		if w := &held.workers[i]; w.Serves() {
			workers++
			slots += w.Slots
		}
	}
	gauge(c.workers, float64(workers))
	gauge(c.slots, float64(slots))
	for state, names := range map[string][]string{"pending": held.gate.Pending, "in_flight": held.gate.InFlight, "failed": held.gate.Failed, "interrupted": held.gate.Interrupted} {
		gauge(c.tasks, float64(len(names)), state)
	}
	gauge(c.ready, number(held.gate.Ready))
}

// holding is what a ledger holds.
type holding struct {
	queues  []sequencer.QueueStatus
	workers []sequencer.WorkerStatus
	gate    *sequencer.Gate
}

func read(ctx context.Context, seq *sequencer.Sequencer) (h holding, err error) {
	if h.queues, err = seq.Queues(ctx); err != nil {
		return h, err
	}
	if h.workers, err = seq.Workers(ctx); err != nil {
		return h, err
	}
	h.gate, err = seq.Verify(ctx)
	return h, err
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
