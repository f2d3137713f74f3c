package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// grace is how long a worker still waits for jobs once all have been inserted.
const grace = 3 * time.Second

// latencies are the percentiles of how long jobs waited, by the clock of the machine.
// A handler that started before the insert had returned has not waited.
func latencies(inserted, listened result) ([]reading, error) {
	var waits, all []time.Duration
	for i, started := range listened.Started {
		if started == 0 {
			continue
		}
		waits = append(waits, max(0, time.Duration(started-inserted.Returned[i])))
		all = append(all, time.Duration(started-listened.Called[i]))
	}
	if missing := len(inserted.Returned) - len(waits); missing > 0 {
		return nil, absent(fmt.Sprintf("%d of %d jobs were not started within %v", missing, len(inserted.Returned), grace))
	}
	slices.Sort(waits)
	slices.Sort(all)
	return []reading{
		{"p50, ms", percentile(waits, 50)},
		{"p95, ms", percentile(waits, 95)},
		{"p99, ms", percentile(waits, 99)},
		{"p50 from the call of insert, ms", percentile(all, 50)},
	}, nil
}

// percentile of sorted durations, in milliseconds.
func percentile(sorted []time.Duration, p int) float64 {
	return float64(sorted[min(len(sorted)-1, len(sorted)*p/100)]) / float64(time.Millisecond)
}

// latencySame measures jobs inserted through the very handle that works.
func latencySame(ctx context.Context, c contender, jobs int) ([]reading, error) {
	return somewhere(ctx, c, func(p place) ([]reading, error) {
		r, err := finish(ctx, task{Do: doListenAndSend, Jobs: jobs, Prepare: true}.at(c, p))
		if err != nil {
			return nil, err
		}
		return latencies(r, r)
	})
}

// latencyOther measures jobs inserted by another process. Both read the same clock.
func latencyOther(ctx context.Context, c contender, jobs int) ([]reading, error) {
	return somewhere(ctx, c, func(p place) ([]reading, error) {
		working, err := start(ctx, task{Do: doListen, Jobs: jobs, Prepare: true}.at(c, p))
		if err != nil {
			return nil, err
		}
		defer working.kill()
		if _, err := working.next(eventReady); err != nil {
			return nil, err
		}
		sent, err := finish(ctx, task{Do: doSend, Jobs: jobs}.at(c, p))
		if err != nil {
			return nil, err
		}
		working.end()
		listened, err := working.next(eventResult)
		if err != nil {
			return nil, err
		}
		return latencies(sent, listened.Result)
	})
}

// rescue kills a worker in the middle of a job and waits until another one, which
// was there all the time, starts it.
func rescue(ctx context.Context, c contender, patience time.Duration) ([]reading, error) {
	return somewhere(ctx, c, func(p place) ([]reading, error) {
		victim, err := start(ctx, task{Do: doHold, Jobs: 1, Prepare: true}.at(c, p))
		if err != nil {
			return nil, err
		}
		defer victim.kill()
		if _, err := victim.next(eventHandled); err != nil {
			return nil, err
		}
		heir, err := start(ctx, task{Do: doHold}.at(c, p))
		if err != nil {
			return nil, err
		}
		defer heir.kill()
		if _, err := heir.next(eventReady); err != nil {
			return nil, err
		}
		victim.kill()
		killed := time.Now()
		late := time.AfterFunc(patience, heir.kill)
		defer late.Stop()
		_, err = heir.next(eventHandled)
		took := time.Since(killed)
		if err != nil && took >= patience {
			return nil, absent(fmt.Sprintf("the job had not been started again after %v", patience))
		}
		return []reading{{"seconds until it runs again", took.Seconds()}}, err
	})
}
