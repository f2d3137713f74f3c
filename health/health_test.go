package health_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/health"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

func ask(t *testing.T, h http.Handler) (int, health.Answer) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	var a health.Answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%q: %v", w.Body, err)
	}
	return w.Code, a
}

func TestWhetherAProcessIsAliveAndReady(t *testing.T) {
	t.Parallel()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	reg := sequencer.NewRegistry()
	sequencer.RegisterFunc(reg, "20240101000000_seed", func(context.Context) error { return nil })
	var log bytes.Buffer
	seq, err := sequencer.New(store, reg, sequencer.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	want := func(what string, h http.Handler, code int, checks map[string]string) {
		t.Helper()
		got, answer := ask(t, h)
		if got != code || answer.OK != (code == http.StatusOK) || len(answer.Checks) != len(checks) {
			t.Errorf("%s: %d %+v, want %d %v", what, got, answer, code, checks)
		}
		for check, text := range checks {
			if !strings.Contains(answer.Checks[check], text) {
				t.Errorf("%s: %s says %q, want %q", what, check, answer.Checks[check], text)
			}
		}
	}
	all := health.Options{Deployed: true, Workers: true}
	want("a database without a ledger", health.Ready(seq, health.Options{}), 200, map[string]string{"ledger": "ok"})
	want("before the deploy", health.Ready(seq, all), 503, map[string]string{"ledger": "ok", "deploy": "pending"})
	if _, err := seq.Process(t.Context(), sequencer.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	want("deployed", health.Ready(seq, health.Options{Deployed: true}), 200, map[string]string{"ledger": "ok", "deploy": "ok"})
	want("without workers", health.Ready(seq, all), 503, map[string]string{"ledger": "ok", "deploy": "ok", "workers": "none"})

	working, stop := context.WithCancel(t.Context())
	started := make(chan struct{})
	worked := make(chan error, 1)
	go func() {
		heard := sequencer.WithObserver(working, func(_ context.Context, e sequencer.Event) {
			if e.Kind == sequencer.EventWorkerStarted {
				close(started)
			}
		})
		worked <- seq.Work(heard, sequencer.WorkerConfig{})
	}()
	<-started
	want("with a worker", health.Ready(seq, all), 200, map[string]string{"ledger": "ok", "deploy": "ok", "workers": "ok"})
	stop()
	if err := <-worked; err != nil {
		t.Fatal(err)
	}

	if log.Len() > 0 {
		t.Errorf("what is not done yet is no news: %s", &log)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	want("a ledger that is away", health.Ready(seq, all), 503, map[string]string{"ledger": "cannot be read"})
	if !strings.Contains(log.String(), "cannot be read") || !strings.Contains(log.String(), "closed") {
		t.Errorf("the log does not say why: %s", &log)
	}
	want("live without a ledger", health.Live(), 200, map[string]string{"process": "ok"})
}
