package main

import (
	"context"
	"slices"
)

// contender is one way of queueing jobs in one kind of store: ours, a peer, or a
// floor.
type contender struct {
	name, store string
	settings    string   // for the head of the output
	works       []string // those it takes part in; empty: all
	// prepare makes the tables, in a process of its own or as the first thing a
	// process does.
	prepare func(ctx context.Context, p place) error
	// open returns a handle on what prepare has made.
	open func(ctx context.Context, p place) (queue, error)
}

func (c contender) takesPart(work string) bool {
	return len(c.works) == 0 || slices.ContainsFunc(c.works, func(name string) bool { return within(work, name) })
}

// queue is an open handle on a contender's queue. Its methods are called from many
// goroutines, close from the last one.
type queue interface {
	// insert adds a job and returns when it is durable.
	insert(ctx context.Context, payload []byte) error
	// left counts the jobs that are not recorded as done.
	left(ctx context.Context) (int, error)
	close() error
}

// bulk is a queue that takes several jobs in one call.
type bulk interface {
	insertBulk(ctx context.Context, payloads [][]byte) error
}

// strangers is a queue whose workers leave alone what they do not know.
type strangers interface {
	// insertStrange adds jobs that no worker knows.
	insertStrange(ctx context.Context, payloads [][]byte) error
}

// worker is a queue that serves jobs until ctx is done. Each job is passed to handle.
// What has been handled by then is recorded before work returns.
type worker interface {
	work(ctx context.Context, handle handler) error
}

// drainer is a queue that works through a backlog and returns when there is nothing
// left, or when ctx is done.
type drainer interface {
	drain(ctx context.Context, handle handler) error
}

// handler receives the payload, possibly wrapped in whatever the contender wraps it in.
type handler func(payload []byte)

// contenders stand in the order of the output. The first of each store that takes
// part in a work is its base.
var contenders = slices.Concat(sqliteFloors, postgresFloors, redisFloors, mysqlFloors, rivers,
	[]contender{asynqPeer, goqitePeer, backlitePeer, guePeer}, ours, oursLoaded)

func find(name, store string) (contender, bool) {
	i := slices.IndexFunc(contenders, func(c contender) bool { return c.name == name && c.store == store })
	if i < 0 {
		return contender{}, false
	}
	return contenders[i], true
}
