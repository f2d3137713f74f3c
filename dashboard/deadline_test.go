package dashboard_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/internal/showcase"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// timed is an answer that notes the deadline under which each part of it is written.
type timed struct {
	*httptest.ResponseRecorder

	deadline time.Time
	under    []time.Duration // until the deadline, 0 = there was none
	flushed  func()
}

func (w *timed) SetWriteDeadline(at time.Time) error {
	w.deadline = at
	return nil
}

func (w *timed) Write(b []byte) (int, error) {
	left := time.Duration(0)
	if !w.deadline.IsZero() {
		left = time.Until(w.deadline)
	}
	w.under = append(w.under, left)
	return len(b), nil
}

func (w *timed) FlushError() error {
	w.flushed()
	return nil
}

func TestAStreamWaitsForNoReaderForEver(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Refresh: 100 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/live?at=/", nil)
	r.RemoteAddr = "127.0.0.1:50000"
	w := &timed{ResponseRecorder: httptest.NewRecorder()}
	w.flushed = func() {
		if len(w.under) == 3 {
			cancel()
		}
	}
	v.server.Config.Handler.ServeHTTP(w, r)
	if len(w.under) != 3 {
		t.Fatalf("%d parts were sent, want 3: %d", len(w.under), w.Code)
	}
	for i, left := range w.under {
		if left <= 0 || left > 30*time.Second {
			t.Errorf("part %d was sent with %s left, want at most 30s", i, left)
		}
	}
	if w.deadline.IsZero() {
		t.Error("the end of the stream is written without a deadline")
	}
}

// patient is a store that notes how long an order has.
type patient struct {
	*memory.Store

	left atomic.Int64
}

func (s *patient) Operate(ctx context.Context, o storage.Order) ([]storage.Execution, error) {
	if at, ok := ctx.Deadline(); ok {
		s.left.Store(int64(time.Until(at)))
	}
	return s.Store.Operate(ctx, o)
}

func TestAnActionHasADeadline(t *testing.T) {
	t.Parallel()
	store := &patient{Store: memory.New()}
	v := openOn(t, showcase.Open(t, store, nil, nil), dashboard.Options{Allow: dashboard.Actions()})
	if said := v.done(dashboard.Cancel, url.Values{"target": {v.Waiting}}); !strings.HasPrefix(said, "good") {
		t.Fatal(said)
	}
	if left := time.Duration(store.left.Load()); left <= 0 || left > 2*time.Minute {
		t.Errorf("the order had %s, want at most two minutes", left)
	}
}
