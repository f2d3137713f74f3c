package main

import (
	"context"
	"time"
)

// work is something that contenders are measured at.
type work struct {
	name    string
	slow    bool
	measure func(ctx context.Context, c contender) ([]reading, error)
}

const (
	// bulkSize is how many jobs a bulk insert hands over in a call.
	bulkSize = 1000
	// batch is how many jobs floors, and our store while it has no worker, claim.
	batch = 500
	// latencyJobs are inserted one after the other, with pauses.
	latencyJobs = 300
	// firstCalls is how many handler calls of a backlog the works first-… time.
	firstCalls = 10_000
	// strangeJobs stand in front of the queue in the work strange.
	strangeJobs = 500_000
	// rescuePatience is how long the work rescue waits.
	rescuePatience = 3 * time.Minute
)

func works(jobs int) []work {
	return append([]work{
		{"insert-8", false, inserting(task{Do: doInsert, Jobs: jobs, Callers: 8})},
		{"insert-64", false, inserting(task{Do: doInsert, Jobs: jobs, Callers: 64})},
		{"insert-bulk", false, inserting(task{Do: doBulk, Jobs: jobs})},
		{"drain", false, func(ctx context.Context, c contender) ([]reading, error) { return measureDrain(ctx, c, jobs) }},
		{"first-20k", true, first(20_000, firstCalls)},
		{"first-500k", true, first(500_000, firstCalls)},
		{"strange", true, func(ctx context.Context, c contender) ([]reading, error) {
			return behind(ctx, c, strangeJobs, firstCalls)
		}},
		{"latency-same", false, func(ctx context.Context, c contender) ([]reading, error) { return latencySame(ctx, c, latencyJobs) }},
		{"latency-other", false, func(ctx context.Context, c contender) ([]reading, error) { return latencyOther(ctx, c, latencyJobs) }},
		{"rescue", true, func(ctx context.Context, c contender) ([]reading, error) { return rescue(ctx, c, rescuePatience) }},
	}, flowWorks(jobs)...)
}

func inserting(t task) func(context.Context, contender) ([]reading, error) {
	return func(ctx context.Context, c contender) ([]reading, error) {
		return somewhere(ctx, c, func(p place) ([]reading, error) {
			t := t.at(c, p)
			t.Prepare = true
			r, err := finish(ctx, t)
			return append([]reading{{"jobs/s", rate(t.Jobs, r.Took)}}, r.perJob(t.Jobs)...), err
		})
	}
}

func measureDrain(ctx context.Context, c contender, jobs int) ([]reading, error) {
	return somewhere(ctx, c, func(p place) ([]reading, error) {
		waiting, err := backlog(ctx, c, p, jobs)
		if err != nil {
			return nil, err
		}
		r, err := finish(ctx, task{Do: doDrain, Jobs: jobs}.at(c, p))
		if err != nil {
			return nil, err
		}
		recorded, err := p.size(ctx)
		million := 1e6 / float64(jobs) / 1e6
		readings := []reading{
			{"jobs/s", rate(jobs, r.Took)},
			{"allocations/job", float64(r.Allocations) / float64(jobs)},
			{"allocated bytes/job", float64(r.Allocated) / float64(jobs)},
		}
		if r.PeakRSS > 0 {
			readings = append(readings, reading{"peak RSS, MiB", float64(r.PeakRSS) / (1 << 20)})
		}
		readings = append(readings, r.perJob(jobs)...)
		return append(readings,
			reading{"MB per million waiting", float64(waiting) * million},
			reading{"MB per million done, as the drain leaves it", float64(recorded) * million}), err
	})
}

func first(jobs, calls int) func(context.Context, contender) ([]reading, error) {
	return func(ctx context.Context, c contender) ([]reading, error) {
		return somewhere(ctx, c, func(p place) ([]reading, error) {
			if _, err := backlog(ctx, c, p, jobs); err != nil {
				return nil, err
			}
			r, err := finish(ctx, task{Do: doDrain, Jobs: jobs, Calls: calls}.at(c, p))
			return []reading{{"jobs/s", rate(calls, r.Took)}}, err
		})
	}
}

// behind times a backlog by itself, and then one behind jobs that the worker does not
// know: while it sets those aside, and once more when it has.
func behind(ctx context.Context, c contender, strange, calls int) ([]reading, error) {
	return somewhere(ctx, c, func(p place) ([]reading, error) {
		if _, err := finish(ctx, task{Do: doBulk, Jobs: calls, Prepare: true}.at(c, p)); err != nil {
			return nil, err
		}
		alone, err := drainFirst(ctx, c, p, calls)
		if err != nil {
			return nil, err
		}
		var after [2]result
		for i := range after {
			if i == 0 {
				_, err = finish(ctx, task{Do: doEstrange, Jobs: strange}.at(c, p))
			}
			if err == nil {
				_, err = finish(ctx, task{Do: doBulk, Jobs: calls}.at(c, p))
			}
			if err == nil {
				after[i], err = drainFirst(ctx, c, p, calls)
			}
			if err != nil {
				return nil, err
			}
		}
		return []reading{
			{"jobs/s with nothing in front", rate(calls, alone.Took)},
			{"jobs/s set aside", rate(strange, after[0].Took)},
			{"jobs/s behind what is set aside", rate(calls, after[1].Took)},
			{"CPU with nothing in front, µs/job", alone.cpu(calls)},
			{"CPU of setting aside, µs/job", after[0].cpu(strange)},
			{"CPU behind what is set aside, µs/job", after[1].cpu(calls)},
		}, nil
	})
}

func drainFirst(ctx context.Context, c contender, p place, calls int) (result, error) {
	if err := p.settle(ctx); err != nil {
		return result{}, err
	}
	return finish(ctx, task{Do: doDrain, Jobs: calls, Calls: calls}.at(c, p))
}

// backlog inserts jobs by a process of its own and returns the size of the store.
func backlog(ctx context.Context, c contender, p place, jobs int) (size int64, err error) {
	if _, err := finish(ctx, task{Do: doFill, Jobs: jobs, Prepare: true}.at(c, p)); err != nil {
		return 0, err
	}
	if err := p.settle(ctx); err != nil {
		return 0, err
	}
	return p.size(ctx)
}

func rate(jobs int, took time.Duration) float64 { return float64(jobs) / took.Seconds() }

// somewhere runs a measurement in a place of its own and removes it afterwards.
func somewhere(ctx context.Context, c contender, measure func(p place) ([]reading, error)) (_ []reading, err error) {
	p, err := newPlace(ctx, c.store)
	if err != nil {
		return nil, err
	}
	defer func() {
		removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if gone := p.remove(removing); err == nil {
			err = gone
		}
	}()
	return measure(p)
}
