package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// task is what a child process is told to do.
type task struct {
	Do      deed   `json:"do"`
	Who     string `json:"who"`
	Place   place  `json:"place"`
	Prepare bool   `json:"prepare,omitempty"` // make the tables first
	Jobs    int    `json:"jobs,omitempty"`
	Callers int    `json:"callers,omitempty"` // goroutines that insert
	Calls   int    `json:"calls,omitempty"`   // stop a drain after that many handler calls; 0: at its end
	Shape   shape  `json:"shape,omitempty"`   // of a flow
}

type deed string

const (
	doInsert        deed = "insert"
	doBulk          deed = "insert in bulk"
	doFlow          deed = "insert a flow"
	doFill          deed = "fill"
	doEstrange      deed = "insert what no worker knows"
	doDrain         deed = "drain"
	doStep          deed = "step by step"
	doListen        deed = "listen"
	doListenAndSend deed = "listen and send"
	doSend          deed = "send"
	doHold          deed = "hold"
)

// result is what a child found out.
type result struct {
	Took        time.Duration `json:"took,omitempty"`
	Allocations uint64        `json:"allocations,omitempty"`
	Allocated   uint64        `json:"allocated,omitempty"` // bytes
	PeakRSS     int64         `json:"peak_rss,omitempty"`  // bytes; 0: not known on this system
	CPU         time.Duration `json:"cpu,omitempty"`       // of this process
	ServerCPU   time.Duration `json:"server_cpu,omitempty"`
	// By number of job, in nanoseconds since 1970: when its insert was called, as its
	// payload says, and when it returned; when its handler started. 0: never.
	Called   []int64 `json:"called,omitempty"`
	Returned []int64 `json:"returned,omitempty"`
	Started  []int64 `json:"started,omitempty"`
}

func (t task) at(c contender, p place) task {
	t.Who, t.Place = c.name, p
	return t
}

func (t task) do(ctx context.Context, say func(message)) (r result, err error) {
	c, ok := find(t.Who, t.Place.Store)
	if !ok {
		return r, fmt.Errorf("no contender %s on %s", t.Who, t.Place.Store)
	}
	if t.Prepare {
		if err := c.prepare(ctx, t.Place); err != nil {
			return r, fmt.Errorf("prepare: %w", err)
		}
	}
	q, err := c.open(ctx, t.Place)
	if err != nil {
		return r, fmt.Errorf("open: %w", err)
	}
	defer func() {
		if closed := q.close(); err == nil {
			err = closed
		}
	}()
	switch t.Do {
	case doInsert:
		return metered(ctx, t.Place, func() (result, error) { return insertAll(ctx, q, t.Jobs, t.Callers) })
	case doBulk:
		return metered(ctx, t.Place, func() (result, error) { return insertInBulk(ctx, q, t.Jobs) })
	case doFlow:
		return metered(ctx, t.Place, func() (result, error) { return insertFlow(ctx, q, t.Shape, t.Jobs) })
	case doStep:
		return metered(ctx, t.Place, func() (result, error) { return stepAll(ctx, q, t.Jobs) })
	case doFill:
		return result{}, fill(ctx, q, t.Jobs)
	case doEstrange:
		return result{}, estrange(ctx, q, t.Jobs)
	case doDrain:
		return metered(ctx, t.Place, func() (result, error) { return drainAll(ctx, q, t.Jobs, t.Calls) })
	case doListen, doListenAndSend:
		return listen(ctx, q, t.Jobs, t.Do == doListenAndSend, say)
	case doSend:
		return send(ctx, q, t.Jobs)
	case doHold:
		return result{}, hold(ctx, q, t.Jobs, say)
	default:
		return r, fmt.Errorf("no task %q", t.Do)
	}
}

// insertAll inserts jobs one by one. The payloads are made before.
func insertAll(ctx context.Context, q queue, jobs, callers int) (result, error) {
	all := payloads(jobs)
	var next atomic.Int64
	errs := make([]error, callers)
	var wait sync.WaitGroup
	began := time.Now()
	for i := range callers {
		wait.Go(func() {
			for n := next.Add(1); n <= int64(jobs) && errs[i] == nil; n = next.Add(1) {
				errs[i] = q.insert(ctx, all[n-1])
			}
		})
	}
	wait.Wait()
	return result{Took: time.Since(began)}, errors.Join(errs...)
}

func insertInBulk(ctx context.Context, q queue, jobs int) (result, error) {
	b, ok := q.(bulk)
	if !ok {
		return result{}, absent("it has no bulk insert")
	}
	all := payloads(jobs)
	began := time.Now()
	for len(all) > 0 {
		n := min(bulkSize, len(all))
		if err := b.insertBulk(ctx, all[:n]); err != nil {
			return result{}, err
		}
		all = all[n:]
	}
	return result{Took: time.Since(began)}, nil
}

// estrange inserts jobs that no worker knows.
func estrange(ctx context.Context, q queue, jobs int) error {
	s, ok := q.(strangers)
	if !ok {
		return absent("its workers do not leave alone what they do not know")
	}
	for left := jobs; left > 0; left -= bulkSize {
		if err := s.insertStrange(ctx, payloads(min(bulkSize, left))); err != nil {
			return err
		}
	}
	return nil
}

// fill makes a backlog, the fast way if there is one.
func fill(ctx context.Context, q queue, jobs int) error {
	insert := insertInBulk
	if _, ok := q.(bulk); !ok {
		insert = func(ctx context.Context, q queue, jobs int) (result, error) { return insertAll(ctx, q, jobs, 32) }
	}
	if _, err := insert(ctx, q, jobs); err != nil {
		return err
	}
	n, err := q.left(ctx)
	if err == nil && n != jobs {
		err = fmt.Errorf("%d jobs were inserted, %d wait", jobs, n)
	}
	return err
}
