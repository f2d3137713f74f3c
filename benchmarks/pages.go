package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/storage"
)

// pages looks at the dashboard over a ledger with fifty times as many executions as jobs: how
// long each page takes at most, when nothing of it is remembered from the request before;
// and at what it costs a drain of five times as many that somebody watches it.
func pages(jobs int) []measurement {
	var all []measurement
	for _, c := range ours {
		all = append(all,
			measurement{"pages", c.store, c.name, func(ctx context.Context) ([]reading, error) {
				return somewhere(ctx, c, func(p place) ([]reading, error) {
					if err := c.prepare(ctx, p); err != nil {
						return nil, err
					}
					return onLedger(ctx, c, p, func(seq *sequencer.Sequencer) ([]reading, error) { return pagesOf(ctx, seq.Store(), p, 50*jobs) })
				})
			}},
			measurement{"pages-drain", c.store, c.name, func(ctx context.Context) ([]reading, error) { return watchedDrain(ctx, c, 5*jobs) }})
	}
	return all
}

// onLedger opens a place of ours.
func onLedger(ctx context.Context, c contender, p place, do func(seq *sequencer.Sequencer) ([]reading, error)) ([]reading, error) {
	q, err := c.open(ctx, p)
	if err != nil {
		return nil, err
	}
	ours, ok := q.(*oursQueue)
	if !ok {
		return nil, fmt.Errorf("%s is none of ours", c.name)
	}
	readings, err := do(ours.seq)
	return readings, errors.Join(err, q.close())
}

// watchRate is how many pages are asked for in a second while a drain is watched.
const watchRate = 20

// watchedDrain has another process drain a backlog, alone and while this one serves the
// dashboard.
func watchedDrain(ctx context.Context, c contender, jobs int) ([]reading, error) {
	took := map[bool]time.Duration{}
	for _, watched := range []bool{false, true} {
		_, err := somewhere(ctx, c, func(p place) ([]reading, error) {
			if _, err := finish(ctx, task{Do: doBulk, Jobs: jobs, Prepare: true}.at(c, p)); err != nil {
				return nil, err
			}
			if err := p.settle(ctx); err != nil {
				return nil, err
			}
			return onLedger(ctx, c, p, func(seq *sequencer.Sequencer) ([]reading, error) {
				watching, stop := context.WithCancel(ctx)
				looked := make(chan error, 1)
				go func() { looked <- watch(watching, seq, watched) }()
				r, err := finish(ctx, task{Do: doDrain, Jobs: jobs}.at(c, p))
				stop()
				took[watched] = r.Took
				return nil, errors.Join(err, <-looked)
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return []reading{{"time of a drain that nobody watches", took[true].Seconds() / took[false].Seconds()}}, nil
}

// watch asks for one page after another until ctx ends.
func watch(ctx context.Context, seq *sequencer.Sequencer, really bool) error {
	d, err := dashboard.New(seq, dashboard.Options{})
	if err != nil || !really {
		return err
	}
	paths := []string{"/", "/operations", "/executions", "/executions?state=failed", "/failures", "/queues", "/workers", "/flows", "/deploys", "/limits"}
	ticker := time.NewTicker(time.Second / watchRate)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if _, err := look(ctx, d, paths[i%len(paths)]); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// look asks for a page.
func look(ctx context.Context, d http.Handler, path string) (took time.Duration, err error) {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1"+path, nil)
	r.RemoteAddr = "127.0.0.1:1"
	w := httptest.NewRecorder()
	began := time.Now()
	d.ServeHTTP(w, r)
	took = time.Since(began)
	if w.Code != http.StatusOK {
		err = fmt.Errorf("%s: %d %.200s", path, w.Code, w.Body)
	}
	return took, err
}

// pageLooks is how often each page is asked for.
const pageLooks = 10

// pageRefresh is how long a dashboard remembers what several pages show.
const pageRefresh = 100 * time.Millisecond

func pagesOf(ctx context.Context, store storage.Store, p place, jobs int) ([]reading, error) {
	seq, err := fillPages(ctx, store, jobs)
	if err != nil {
		return nil, err
	}
	if err := p.settle(ctx); err != nil {
		return nil, err
	}
	urls, err := pageURLs(ctx, seq)
	if err != nil {
		return nil, err
	}
	d, err := dashboard.New(seq, dashboard.Options{Refresh: pageRefresh})
	if err != nil {
		return nil, err
	}
	var all []reading
	for _, page := range urls {
		var worst time.Duration
		for range pageLooks {
			time.Sleep(2 * pageRefresh) // what was remembered is out of date
			took, err := look(ctx, d, page.path)
			if err != nil {
				return nil, err
			}
			worst = max(worst, took)
		}
		all = append(all, reading{page.name + ", ms at most", float64(worst.Microseconds()) / 1000})
	}
	return all, nil
}

// fillPages makes a ledger of so many executions: most completed, of 50 operations with
// tags, one in fifty failed by one of five causes, one in a hundred waiting.
func fillPages(ctx context.Context, store storage.Store, jobs int) (*sequencer.Sequencer, error) {
	reg := sequencer.NewRegistry()
	operations := make([]func(noop) sequencer.Operation, 50)
	causes := []string{"mailbox full", "connection refused", "no such customer", "quota exceeded", "timed out upstream"}
	for i := range operations {
		operations[i] = sequencer.RegisterFuncOf(reg, fmt.Sprintf("operation.%02d", i), func(_ context.Context, in noop) error {
			if in.Payload != "" {
				return errors.New(in.Payload)
			}
			return nil
		}, sequencer.Tagged(fmt.Sprintf("team:%d", i%7)))
	}
	for i := range 20 {
		sequencer.RegisterFunc(reg, fmt.Sprintf("202401010000%02d_step", i), func(context.Context) error { return nil })
	}
	seq, err := sequencer.New(store, reg, sequencer.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	if _, err := seq.Process(ctx, sequencer.RunOptions{}); err != nil {
		return nil, err
	}
	dispatch := func(jobs int) error {
		var g errgroup.Group
		g.SetLimit(2 * runtime.GOMAXPROCS(0))
		for first := 0; first < jobs; first += bulkSize {
			g.Go(func() error {
				ops := make([]sequencer.Operation, min(bulkSize, jobs-first))
				for i := range ops {
					n := first + i
					in := noop{}
					if n%50 == 0 {
						in.Payload = causes[n/50%len(causes)]
					}
					ops[i] = operations[n%len(operations)](in)
				}
				_, err := seq.DispatchAll(ctx, ops...)
				return err
			})
		}
		return g.Wait()
	}
	if err := dispatch(jobs - jobs/100); err != nil {
		return nil, err
	}
	if err := seq.Work(ctx, sequencer.WorkerConfig{Slots: slots, StopWhenEmpty: true}); err != nil {
		return nil, err
	}
	members := make([]sequencer.Operation, 500)
	for i := range members {
		members[i] = operations[i%len(operations)](noop{})
	}
	if _, err := seq.Batch(members...).Name("a batch").Dispatch(ctx); err != nil {
		return nil, err
	}
	return seq, dispatch(jobs / 100)
}

type pageURL struct{ name, path string }

// pageURLs are all pages, those of one thing with a thing that there is.
func pageURLs(ctx context.Context, seq *sequencer.Sequencer) ([]pageURL, error) {
	failed, err := seq.Store().Executions(ctx, storage.Filter{States: []storage.State{storage.Failed}, Limit: 1})
	if err != nil {
		return nil, err
	}
	flows, err := seq.Store().Flows(ctx, storage.FlowFilter{Limit: 10})
	if err != nil {
		return nil, err
	}
	if len(failed) == 0 || len(flows) == 0 {
		return nil, errors.New("the ledger holds no failed execution, or no flow")
	}
	urls := []pageURL{
		{"overview", "/"},
		{"overview, 24 hours", "/?span=24h"},
		{"deploys", "/deploys"},
		{"operations", "/operations"},
		{"operation", "/operations/operation.07"},
		{"executions", "/executions"},
		{"executions, failed", "/executions?state=failed"},
		{"executions, waiting", "/executions?state=pending"},
		{"executions, by name", "/executions?name=operation.07"},
		{"executions, by tag", "/executions?tag=team:3"},
		{"executions, by queue", "/executions?queue=default"},
		{"executions, by group", "/executions?group=" + failed[0].ErrorGroup},
		{"execution", "/executions/" + failed[0].ID.String()},
		{"flows", "/flows"},
		{"failures", "/failures"},
		{"queues", "/queues"},
		{"schedules", "/schedules"},
		{"workers", "/workers"},
		{"limits", "/limits"},
		{"audit", "/audit"},
	}
	for _, kind := range []storage.FlowKind{storage.FlowBatch, storage.FlowRun} {
		if i := slices.IndexFunc(flows, func(f storage.Flow) bool { return f.Kind == kind }); i >= 0 {
			path := "/flows/"
			if kind == storage.FlowRun {
				path = "/deploys/"
			}
			urls = append(urls, pageURL{"one " + string(kind), path + flows[i].ID.String()})
		}
	}
	return urls, nil
}
