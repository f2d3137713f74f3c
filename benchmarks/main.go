// Command benchmarks measures Sequencer beside what it is compared with: other Go
// queues at the best settings we know of for them (peers), and the statements that
// any queue on that store has to send at least, written by hand (floors). All of
// them do the same work on the same servers, in alternation.
//
//	go run .                         everything but the slow works
//	go run . -slow                   the slow ones too: first, strange, rescue, grow
//	go run . -run drain,latency      some works; a name stands for all that begin with it
//	go run . -store postgres         some stores
//	go run . -who sequencer,river    some contenders
//	go run . -base river             ratios against another base
//	go run . -repeat 5 -json out.jsonl
//	go run . -run drain -who sequencer -profile /tmp/profiles
//
// # How to read the result
//
// Each block is one work, one figure and one store; the line marked "base" is what
// the ratios refer to: the first that takes part, which is the floor where there is
// one, or the one that -base names. In jobs/s a ratio above 1 is better than the
// base, in everything else a ratio below 1 is. A figure is the median over the
// repetitions, between the lowest and the highest. What a machine that is shared
// says in absolute figures means nothing; the ratios do, and only those within one
// run. A spread as wide as the difference means that there is no difference.
//
// The JSON lines hold every single figure ("kind":"sample") and then the medians
// with their ratios ("kind":"median").
//
// # What is measured
//
//   - insert-8, insert-64: jobs inserted one by one from that many goroutines; as
//     with drains, also the CPU it took in the process and, on PostgreSQL, in the
//     backends that served it, which is what a busy machine says most truly
//   - insert-bulk: the same jobs a thousand a call, from one goroutine
//   - drain: a backlog, from the start of the worker until the store has every job
//     as done; the allocations and the memory of the process that does it; and how
//     large the store is before and after, for a million jobs
//   - first-20k, first-500k (slow): the first 10,000 handler calls of a backlog of
//     that size; a claim that walks over what waits shows here
//   - strange (slow): 10,000 jobs behind 500,000 that the worker does not know, when it
//     meets those and when it has set them aside, beside 10,000 with nothing in front
//   - latency-same, latency-other: from an insert that has returned to the start of
//     the handler, inserted by the process that works or by another one
//   - rescue (slow): from SIGKILL of a worker until another one starts its job
//   - flow-batch, flow-chain, flow-chains, flow-waves, flow-graph: half as many members as
//     -jobs says, dispatched by one call, beside as many plain jobs; steps of the chain
//     also beside a loop written by hand, one commit a step
//   - grow-batch and the others (slow): flows of 1,000, 10,000 and 100,000 members. A
//     member should cost the same in each, and the worker's memory stay
//   - pages (slow): each page of the dashboard over a ledger of fifty times -jobs executions, a
//     million by default; the longest of ten requests. pages-drain: a drain while twenty pages a
//     second are asked for, beside one that nobody watches
//   - deploy: runs over migrations and operations, see deploy.go
//
// "sequencer, loaded" is ours with an operation that declares what costs something
// (ours_loaded.go): its lines beside the plain ones are the price of that.
//
// A job does nothing and carries 100 bytes. Everything but deploy happens in child
// processes, so that memory is each contender's own; all of them are linked into one
// program, which is the part of the memory that they have in common. Durability is
// equal: SQLite in WAL mode with synchronous=NORMAL for everybody, the servers as
// they are. Who keeps what is done and who deletes it differs, and is said with the
// settings of each in the head of the output. Peers come as modules, at the versions
// that go.mod names; gue is its v5.
//
// Servers are found by SEQUENCER_TEST_POSTGRES_URL, SEQUENCER_TEST_REDIS_URL
// (redis://…) and SEQUENCER_TEST_MYSQL_URL (mysql://user:password@host:port/, or a DSN
// of go-sql-driver), else on 127.0.0.1. One that cannot be reached is left out, and
// the output says so. Each measurement has a schema, a database, a file, or a word in
// its keys of its own, which is removed afterwards.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

func main() {
	if text := os.Getenv(taskVar); text != "" {
		sampleAllocations()
		os.Exit(serve(text))
	}
	o := options{out: os.Stdout}
	var works, stores, whos, profiles string
	flag.StringVar(&works, "run", "", "comma-separated works, or what their names begin with")
	flag.StringVar(&stores, "store", "", "comma-separated stores: sqlite, postgres, redis, mysql")
	flag.StringVar(&whos, "who", "", "comma-separated contenders")
	flag.StringVar(&o.base, "base", "", "the contender that ratios refer to; default the first of each block")
	flag.IntVar(&o.repeat, "repeat", 3, "repetitions of each measurement")
	flag.IntVar(&o.jobs, "jobs", 20_000, "jobs that are inserted and drained")
	flag.BoolVar(&o.slow, "slow", false, "measure the slow works too")
	flag.StringVar(&o.json, "json", "", "append the figures to this file, a JSON document a line")
	flag.StringVar(&profiles, "profile", "", "write CPU and allocation profiles of what is inserted and drained to this directory")
	flag.Parse()
	if err := os.Setenv(profileVar, profiles); err != nil { // children inherit it
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
	o.works, o.stores, o.whos = list(works), list(stores), list(whos)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}
