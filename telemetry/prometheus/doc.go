// Package prometheus is a Prometheus collector for a sequencer: what this process did, counted
// as it happens, and what the ledger holds, read when the metrics are asked for.
//
//	c := prometheus.New(prometheus.Options{})
//	cfg.Observers = append(cfg.Observers, c.Observe)
//	seq, err := sequencer.New(store, registry, cfg)
//	…
//	c.Watch(seq)
//	registerer.MustRegister(c)
//
// # What this process did
//
//	sequencer_executions_total{operation,outcome}                counter
//	sequencer_attempt_duration_seconds{operation,outcome}        histogram
//	sequencer_dispatched_total{operation}                        counter
//	sequencer_runs_total{outcome}                                counter
//
// An outcome is the kind of a [sequencer.Event]: completed, failed, retrying, released,
// skipped, cancelled, interrupted, rolled_back, rollback_failed, fenced; of a run its state.
// Operations are registered names, so they are as many as there are (Q8); a migration is the
// operation "migration".
//
// # What the ledger holds
//
//	sequencer_up                                    gauge  1 = the ledger answered
//	sequencer_queue_executions{queue,state}         gauge  ready, scheduled, blocked, parked, running
//	sequencer_queue_oldest_seconds{queue}           gauge  age of the oldest that is ready
//	sequencer_queue_workers{queue}                  gauge  workers that serve it
//	sequencer_queue_paused{queue}                   gauge
//	sequencer_workers                               gauge  live workers
//	sequencer_slots                                 gauge  what they run at most at a time
//	sequencer_deploy_tasks{state}                   gauge  pending, in_flight, failed, interrupted
//	sequencer_deploy_ready                          gauge  1 = nothing of the deploy is missing
//
// Every process on a ledger gives the same answer there: let one of them be asked, or use max
// without the instance, as the dashboard and the alerts beside this file do.
package prometheus
