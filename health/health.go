// Package health has the two questions that an orchestrator of containers asks a process, as
// HTTP handlers: is it alive, and may it be sent work?
//
//	mux.Handle("GET /livez", health.Live())
//	mux.Handle("GET /readyz", health.Ready(seq, health.Options{}))
//
// Both answer in JSON, with 200 or, Ready alone, 503 within Options.Timeout, and write nothing. They say
// which thing is wrong in words of their own, never with the text of an error, which may name
// hosts: that is logged. They need no credentials; do not put them on a public address.
package health

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/gosequencer/sequencer"
)

// DefaultTimeout is how long a question to the ledger may take.
const DefaultTimeout = 2 * time.Second

// Options change what is asked. The zero value works.
type Options struct {
	// Timeout bounds the answer; default DefaultTimeout.
	Timeout time.Duration
	// Deployed has Ready wait for the deploy: it says no while operations or migrations of
	// this build are pending, in flight, failed or interrupted, or migrations have drifted, as
	// "sequencer verify" does.
	Deployed bool
	// Workers has Ready say no while no worker serves any queue.
	Workers bool
}

// Answer is the body of both.
type Answer struct {
	OK     bool              `json:"ok"`
	Checks map[string]string `json:"checks"` // by what was asked: "ok", or what is wrong
}

// names of checks, and the answer that is none.
const (
	checkLedger  = "ledger"
	checkDeploy  = "deploy"
	checkWorkers = "workers"
	ok           = "ok"
)

// Live says that the process serves requests, and asks nobody else: an orchestrator that
// restarts what is not alive, or not in time, gains nothing by that while a database is away.
func Live() http.Handler {
	return handler(Options{}, func(context.Context) Answer { return Answer{OK: true, Checks: map[string]string{"process": ok}} })
}

// Ready says whether the process may be sent work: the ledger answers, its schema is one that
// this build knows, and what Options ask for holds.
func Ready(seq *sequencer.Sequencer, o Options) http.Handler {
	return handler(o, func(ctx context.Context) Answer {
		a := Answer{OK: true, Checks: map[string]string{}}
		ledger(ctx, seq, &a)
		if a.OK && o.Deployed {
			deploy(ctx, seq, &a)
		}
		if a.OK && o.Workers {
			workers(ctx, seq, &a)
		}
		return a
	})
}

func handler(o Options, ask func(context.Context) Answer) http.Handler {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), o.Timeout)
		defer cancel()
		answer := ask(ctx)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !answer.OK {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(answer) // whoever asked is gone
	})
}

// note files a check; a problem in words is what is answered, err what is logged.
func (a *Answer) note(ctx context.Context, seq *sequencer.Sequencer, check, problem string, err error) {
	if problem == "" {
		a.Checks[check] = ok
		return
	}
	a.OK, a.Checks[check] = false, problem
	if err != nil {
		seq.Config().Logger.LogAttrs(ctx, slog.LevelWarn, "not healthy: "+problem, slog.Any(keyError, err))
	}
}

// keyError is the attribute that all log lines have their error in.
const keyError = "error"

// ledger reads the pauses: a small table, behind the same check of the schema as all else.
func ledger(ctx context.Context, seq *sequencer.Sequencer, a *Answer) {
	problem := ""
	_, err := seq.Pauses(ctx)
	if err != nil {
		problem = "it cannot be read"
	}
	a.note(ctx, seq, checkLedger, problem, err)
}

func deploy(ctx context.Context, seq *sequencer.Sequencer, a *Answer) {
	gate, err := seq.Verify(ctx)
	problem := ""
	switch {
	case err != nil:
		problem = "it cannot be told"
	case !gate.Ready:
		problem = "something is pending, in flight, failed or interrupted, or has drifted: see sequencer verify"
	}
	a.note(ctx, seq, checkDeploy, problem, err)
}

func workers(ctx context.Context, seq *sequencer.Sequencer, a *Answer) {
	all, err := seq.Workers(ctx)
	problem := "none serves a queue"
	for i := range all {
		if all[i].Serves() {
			problem = ""
		}
	}
	if err != nil {
		problem = "it cannot be told"
	}
	a.note(ctx, seq, checkWorkers, problem, err)
}
