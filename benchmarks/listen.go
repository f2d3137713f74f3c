package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// startPatience is how long a worker may take until it handles its first job.
const startPatience = 20 * time.Second

// listen works and notes when each job started. The jobs come through the same
// handle, or, until ctx is done, from elsewhere.
func listen(ctx context.Context, q queue, jobs int, sends bool, say func(message)) (result, error) {
	started := make([]atomic.Int64, jobs)
	called := make([]atomic.Int64, jobs)
	var missing atomic.Int64
	missing.Store(int64(jobs))
	all := make(chan struct{})
	stop, err := working(ctx, q, true, func(number int, at int64) {
		if started[number].CompareAndSwap(0, time.Now().UnixNano()) {
			called[number].Store(at)
			if missing.Add(-1) == 0 {
				close(all)
			}
		}
	})
	if err != nil {
		return result{}, err
	}
	var r result
	if sends {
		r, err = send(ctx, q, jobs)
	} else {
		say(message{Event: eventReady})
		<-ctx.Done()
	}
	select {
	case <-all:
	case <-time.After(grace):
	}
	err = errors.Join(err, stop())
	r.Called, r.Started = make([]int64, jobs), make([]int64, jobs)
	for i := range started {
		r.Called[i], r.Started[i] = called[i].Load(), started[i].Load()
	}
	return r, err
}

// send inserts jobs with pauses of 5 to 15 ms, so that no job waits for another.
func send(ctx context.Context, q queue, jobs int) (result, error) {
	r := result{Returned: make([]int64, jobs)}
	for i := range jobs {
		select {
		case <-time.After(time.Duration(5+i%11) * time.Millisecond):
		case <-ctx.Done():
			return r, ctx.Err()
		}
		if err := q.insert(ctx, payload(i)); err != nil {
			return r, err
		}
		r.Returned[i] = time.Now().UnixNano()
	}
	return r, nil
}

// hold works and keeps the first job it gets until ctx is done. Without a job of its
// own to insert, it first proves that it works.
func hold(ctx context.Context, q queue, jobs int, say func(message)) error {
	stop, err := working(ctx, q, jobs == 0, func(int, int64) {
		say(message{Event: eventHandled})
		<-ctx.Done()
	})
	if err != nil {
		return err
	}
	for i := range jobs {
		if err := q.insert(ctx, payload(i)); err != nil {
			return errors.Join(err, stop())
		}
	}
	if jobs == 0 {
		say(message{Event: eventReady})
	}
	<-ctx.Done()
	return stop()
}

// working starts a worker and passes what stands in the payloads of its jobs to handle. With warm, it
// returns once a job has gone through it. The worker lives on when ctx is done.
func working(ctx context.Context, q queue, warm bool, handle func(number int, called int64)) (stop func() error, err error) {
	w, ok := q.(worker)
	if !ok {
		return nil, absent("it has no worker")
	}
	warmed := make(chan struct{}, 1)
	living, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		ended <- w.work(living, func(input []byte) {
			switch number, called, err := readPayload(input); {
			case err != nil:
				panic(err)
			case number == warmUp:
				select {
				case warmed <- struct{}{}:
				default:
				}
			default:
				handle(number, called)
			}
		})
	}()
	stop = func() error {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	if warm {
		if err := warmUpWorker(ctx, q, warmed); err != nil {
			return nil, errors.Join(err, stop())
		}
	}
	return stop, nil
}

// warmUpWorker inserts jobs until the worker has seen one: with another worker on the
// same queue, that need not be the first.
func warmUpWorker(ctx context.Context, q queue, warmed <-chan struct{}) error {
	late := time.After(startPatience)
	for {
		if err := q.insert(ctx, payload(warmUp)); err != nil {
			return err
		}
		select {
		case <-warmed:
			return nil
		case <-late:
			return fmt.Errorf("the worker did not handle a job within %v", startPatience)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
