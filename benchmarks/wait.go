package main

import (
	"context"
	"fmt"
	"time"
)

// grace is how long a worker still waits for jobs once all have been inserted.
const grace = 3 * time.Second

func missed(missing, of int) absent {
	return absent(fmt.Sprintf("%d of %d jobs were not started within %v", missing, of, grace))
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
