package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// drainAll times a drain to its end, or until the handler has been called that often.
func drainAll(ctx context.Context, q queue, jobs, calls int) (result, error) {
	target := int64(jobs)
	if calls > 0 {
		target = int64(calls)
	}
	var handled atomic.Int64
	enough := make(chan struct{})
	handle := func([]byte) {
		if handled.Add(1) == target {
			close(enough)
		}
	}
	var before, after runtime.MemStats
	runtime.GC() // of what opening has left
	runtime.ReadMemStats(&before)
	took, err := drain(ctx, q, handle, enough, calls == 0)
	runtime.ReadMemStats(&after)
	if err != nil {
		return result{}, err
	}
	if n := handled.Load(); n < target {
		return result{}, fmt.Errorf("the handler was called %d times for %d jobs", n, jobs)
	}
	r := result{Took: took, Allocations: after.Mallocs - before.Mallocs, Allocated: after.TotalAlloc - before.TotalAlloc, PeakRSS: peakRSS()}
	if calls > 0 {
		return r, nil
	}
	n, err := q.left(ctx)
	if err == nil && n != 0 {
		err = fmt.Errorf("%d of %d jobs are left after the drain", n, jobs)
	}
	return r, err
}

// drain returns how long it took until there were enough handler calls, or until all
// is recorded. The time that the worker needs to come to an end does not count.
func drain(ctx context.Context, q queue, handle handler, enough <-chan struct{}, toTheEnd bool) (time.Duration, error) {
	d, drains := q.(drainer)
	w, works := q.(worker)
	run := func(ctx context.Context) error { return d.drain(ctx, handle) }
	if !drains {
		if !works {
			return 0, absent("it has no worker")
		}
		run = func(ctx context.Context) error { return w.work(ctx, handle) }
	}
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- run(working) }()
	if drains && toTheEnd {
		err := <-ended
		return time.Since(began), err
	}
	select {
	case <-enough:
	case err := <-ended:
		return 0, errors.Join(err, errors.New("the worker ended too early"))
	}
	var err error
	if toTheEnd {
		err = recorded(ctx, q)
	}
	took := time.Since(began)
	cancel()
	if end := <-ended; !errors.Is(end, context.Canceled) {
		err = errors.Join(err, end)
	}
	return took, err
}

// recorded waits until the store has every job as done. It asks every two
// milliseconds, and only once the last handler has been called.
func recorded(ctx context.Context, q queue) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if n, err := q.left(ctx); n == 0 || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
