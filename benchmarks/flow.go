package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// A shape is how jobs belong together.
type shape string

const (
	shapeBatch  shape = "batch"  // all in one
	shapeChain  shape = "chain"  // each after the one before
	shapeChains shape = "chains" // a batch of chains, as many as each has steps
	shapeWaves  shape = "waves"  // a chain of batches, as many as each has members
	shapeGraph  shape = "graph"  // layers of graphWidth, joined by a member that waits for one and holds up the next
)

var shapes = []shape{shapeBatch, shapeChain, shapeChains, shapeWaves, shapeGraph}

// graphWidth is how many members of a graph may run at a time.
const graphWidth = 100

// growth are the sizes at which the slow works look whether a member of a large flow
// costs more than one of a small one.
var growth = []int{1_000, 10_000, 100_000}

// flows is a queue whose jobs may belong together.
type flows interface {
	// insertFlow adds jobs of that shape in one call.
	insertFlow(ctx context.Context, s shape, payloads [][]byte) error
}

// stepper is a queue that can be worked off by hand, one commit a job.
type stepper interface {
	// step hands the first job that waits to handle and records it as done, in one
	// commit, and is false when none waits.
	step(ctx context.Context, handle handler) (bool, error)
}

// flowWorks compare members of flows with the same number of plain jobs, and steps of
// a chain with a loop written by hand.
func flowWorks(jobs int) []work {
	var all []work
	for _, s := range shapes {
		n := jobs / 2
		all = append(all, work{"flow-" + string(s), false, func(ctx context.Context, c contender) ([]reading, error) {
			return flowBesidePlain(ctx, c, s, n)
		}})
	}
	for _, s := range shapes {
		all = append(all, work{"grow-" + string(s), true, func(ctx context.Context, c contender) ([]reading, error) {
			return flowGrowing(ctx, c, s, growth)
		}})
	}
	return all
}

// cost is what jobs took: to insert them, and to work them off.
type cost struct {
	jobs          int
	insert, drain result
}

func (c cost) micros(r result) float64 { return r.Took.Seconds() * 1e6 / float64(c.jobs) }
func (c cost) time() float64           { return c.micros(c.insert) + c.micros(c.drain) }
func (c cost) cpu() float64            { return c.insert.cpu(c.jobs) + c.drain.cpu(c.jobs) }

// ourName is who has flows.
const ourName = "sequencer"

// flowCost inserts jobs and works them off, in two processes; s is "" for plain ones.
func flowCost(ctx context.Context, c contender, s shape, jobs int) (cost, error) {
	all := cost{jobs: jobs}
	_, err := somewhere(ctx, c, func(p place) ([]reading, error) {
		fill := task{Do: doBulk, Jobs: jobs, Prepare: true}
		if s != "" {
			fill.Do, fill.Shape = doFlow, s
		}
		var err error
		if all.insert, err = finish(ctx, fill.at(c, p)); err != nil {
			return nil, err
		}
		if err := p.settle(ctx); err != nil {
			return nil, err
		}
		all.drain, err = finish(ctx, task{Do: doDrain, Jobs: jobs}.at(c, p))
		return nil, err
	})
	return all, err
}

func flowBesidePlain(ctx context.Context, c contender, s shape, jobs int) ([]reading, error) {
	if c.name != ourName {
		return nil, absent("its jobs cannot belong together")
	}
	plain, err := flowCost(ctx, c, "", jobs)
	if err != nil {
		return nil, err
	}
	members, err := flowCost(ctx, c, s, jobs)
	if err != nil {
		return nil, err
	}
	readings := []reading{
		{"insert, µs/member", members.micros(members.insert)},
		{"drain, µs/member", members.micros(members.drain)},
		{"time of plain jobs", members.time() / plain.time()},
	}
	if plain.cpu() > 0 {
		readings = append(readings, reading{"CPU, µs/member", members.cpu()}, reading{"CPU of plain jobs", members.cpu() / plain.cpu()})
	}
	if s != shapeChain {
		return readings, nil
	}
	loop, err := byHand(ctx, c.store, jobs)
	if err != nil {
		return nil, err
	}
	return append(readings, reading{"time of a loop by hand", members.micros(members.drain) / loop}), nil
}

// byHand is how many microseconds a job takes in a loop written by hand.
func byHand(ctx context.Context, store string, jobs int) (micros float64, err error) {
	floor, ok := find("floor", store)
	if !ok {
		return 0, fmt.Errorf("there is no floor on %s", store)
	}
	_, err = somewhere(ctx, floor, func(p place) ([]reading, error) {
		if _, err := finish(ctx, task{Do: doBulk, Jobs: jobs, Prepare: true}.at(floor, p)); err != nil {
			return nil, err
		}
		if err := p.settle(ctx); err != nil {
			return nil, err
		}
		r, err := finish(ctx, task{Do: doStep, Jobs: jobs}.at(floor, p))
		micros = r.Took.Seconds() * 1e6 / float64(jobs)
		return nil, err
	})
	return micros, err
}

func flowGrowing(ctx context.Context, c contender, s shape, sizes []int) ([]reading, error) {
	if c.name != ourName {
		return nil, absent("its jobs cannot belong together")
	}
	var readings []reading
	for _, n := range sizes {
		members, err := flowCost(ctx, c, s, n)
		if err != nil {
			return nil, fmt.Errorf("%d members: %w", n, err)
		}
		of := func(what string) string { return fmt.Sprintf("%d members: %s", n, what) }
		readings = append(readings,
			reading{of("insert, µs/member"), members.micros(members.insert)},
			reading{of("drain, µs/member"), members.micros(members.drain)},
			reading{of("CPU, µs/member"), members.cpu()},
			reading{of("peak RSS of the worker, MiB"), float64(members.drain.PeakRSS) / (1 << 20)})
	}
	return readings, nil
}

// stepAll works off all jobs in a loop.
func stepAll(ctx context.Context, q queue, jobs int) (result, error) {
	s, ok := q.(stepper)
	if !ok {
		return result{}, absent("nobody has written a loop for it")
	}
	began, handled := time.Now(), 0
	for more := true; more; {
		var err error
		if more, err = s.step(ctx, func([]byte) { handled++ }); err != nil {
			return result{}, err
		}
	}
	if handled != jobs {
		return result{}, fmt.Errorf("the loop handled %d of %d jobs", handled, jobs)
	}
	return result{Took: time.Since(began)}, nil
}

// insertFlow inserts jobs of a shape in one call.
func insertFlow(ctx context.Context, q queue, s shape, jobs int) (result, error) {
	f, ok := q.(flows)
	if !ok {
		return result{}, absent("its jobs cannot belong together")
	}
	all := payloads(jobs)
	began := time.Now()
	err := f.insertFlow(ctx, s, all)
	return result{Took: time.Since(began)}, err
}

// insertFlow implements flows.
func (q *oursQueue) insertFlow(ctx context.Context, s shape, payloads [][]byte) error {
	all := make([]sequencer.Operation, len(payloads))
	for i, p := range payloads {
		all[i] = q.job(noop{string(p)})
	}
	var err error
	switch s {
	case shapeBatch:
		_, err = q.seq.Batch(all...).Dispatch(ctx)
	case shapeChain:
		_, err = q.seq.Chain(all...).Dispatch(ctx)
	case shapeChains, shapeWaves:
		var parts []sequencer.Operation
		for part := range slices.Chunk(all, squareRoot(len(all))) {
			if s == shapeChains {
				parts = append(parts, q.seq.Chain(part...))
			} else {
				parts = append(parts, q.seq.Batch(part...))
			}
		}
		if s == shapeChains {
			_, err = q.seq.Batch(parts...).Dispatch(ctx)
		} else {
			_, err = q.seq.Chain(parts...).Dispatch(ctx)
		}
	case shapeGraph:
		err = q.insertGraph(ctx, payloads)
	default:
		err = fmt.Errorf("no shape %q", s)
	}
	return err
}

func squareRoot(n int) int {
	root := 1
	for (root+1)*(root+1) <= n {
		root++
	}
	return root
}

// insertGraph writes rows as a dispatch does.
func (q *oursQueue) insertGraph(ctx context.Context, payloads [][]byte) error {
	f := storage.Flow{ID: storage.NewID(), Kind: storage.FlowBatch, Method: "graph", Policy: storage.PolicyContinue}
	r := storage.EnqueueRequest{Flows: []storage.Flow{f}}
	var join storage.ID
	var layer []storage.ID
	for i, p := range payloads {
		input, err := json.Marshal(noop{string(p)})
		if err != nil {
			return err
		}
		e := storage.Execution{
			ID: storage.NewID(), Name: "noop", Kind: storage.Unlisted, Method: "graph", Queue: sequencer.DefaultQueue, OnLoss: storage.LossRetry,
			FlowID: f.ID, Member: "noop", Position: i,
			Input: append([]byte{1, 0}, input...), // JSON, not sealed
		}
		r.Executions = append(r.Executions, e)
		if len(layer) == graphWidth {
			for _, from := range layer {
				r.Edges = append(r.Edges, storage.Edge{From: from, To: e.ID, Needs: true})
			}
			join, layer = e.ID, layer[:0]
			continue
		}
		if !join.IsZero() {
			r.Edges = append(r.Edges, storage.Edge{From: join, To: e.ID, Needs: true})
		}
		layer = append(layer, e.ID)
	}
	_, err := q.seq.Store().Enqueue(ctx, r)
	return err
}
