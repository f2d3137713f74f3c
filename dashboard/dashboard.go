package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/gosequencer/sequencer"
)

// server is one dashboard.
type server struct {
	seq    *sequencer.Sequencer
	o      Options
	assets map[string]asset
	pulses shared[pulse]
	charts [len(ranges)]shared[*history]
	lists  readings[found]
	causes readings[[]sequencer.FailureGroup]
	lives  lives

	runTimes sync.Map // by name of an operation: *shared[[3]time.Duration]
}

// New makes a dashboard of a sequencer's ledger, or returns every problem of the
// options. The handler is safe for concurrent use and holds no goroutine between
// requests; it reads the ledger only while somebody looks.
func New(seq *sequencer.Sequencer, o Options) (http.Handler, error) {
	if seq == nil {
		return nil, errors.New("dashboard.New: the sequencer is nil")
	}
	if err := o.normalize(); err != nil {
		return nil, fmt.Errorf("dashboard.New: %w", err)
	}
	s := &server{seq: seq, o: o}
	var err error
	if s.assets, err = readAssets(); err != nil {
		return nil, err
	}
	return secured(s.admitted(sameOrigin(s.routes()))), nil
}

// routes is where everything is.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	at := func(path string) string { return s.o.Prefix + path }
	for path, build := range map[string]builder{
		"/{$}":                  overview,
		"/deploys":              deploys,
		"/deploys/{id}":         deploy,
		"/operations":           operations,
		"/operations/{name...}": operation,
		"/executions":           executions,
		"/executions/{id}":      execution,
		"/flows":                flows,
		"/flows/{id}":           flow,
		"/failures":             failures,
		"/queues":               queues,
		"/schedules":            schedules,
		"/approvals":            approvals,
		"/workers":              workers,
		"/limits":               limits,
		"/audit":                audit,
		"/bulk":                 bulk,
	} {
		mux.Handle("GET "+at(path), s.page(build))
	}
	mux.HandleFunc("POST "+at("/act"), s.act)
	mux.HandleFunc("GET "+at("/live"), func(w http.ResponseWriter, r *http.Request) { s.live(w, r, mux) })
	mux.HandleFunc("GET "+at("/static/{name}"), s.static)
	if s.o.Prefix != "" {
		mux.Handle("GET "+s.o.Prefix, http.RedirectHandler(s.o.Prefix+"/", http.StatusPermanentRedirect))
	}
	mux.Handle(at("/"), s.page(lost))
	return mux
}

type personKey struct{}

func withPerson(ctx context.Context, who Person) context.Context {
	return context.WithValue(ctx, personKey{}, who)
}

func personOf(ctx context.Context) Person {
	who, _ := ctx.Value(personKey{}).(Person)
	return who
}
