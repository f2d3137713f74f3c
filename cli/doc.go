// Package cli is the command tree of Sequencer. An application, whose operations
// are compiled in, mounts it in three lines:
//
//	seq, err := sequencer.New(store, registry, config)
//	// …
//	os.Exit(cli.Main(ctx, seq, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
//
// A program that uses cobra adds [Command] to its own tree and turns the error it
// gets back into an exit code with [ExitCode]. cmd/sequencer is the same tree over
// operations that are files.
//
// # Exit codes
//
//	0    done, or nothing to do
//	1    failed
//	2    wrong usage
//	3    blocked by a guard
//	4    another run holds the lock
//	5    something is pending or failed (verify, wait, status --exit-code), or a queue has reached a limit (monitor)
//	6    waiting timed out (wait)
//	7    applied migrations were changed afterwards, and nothing worse (verify, wait, status --exit-code)
//	8    a run stopped because it waits for an approval (process)
//	130  stopped by Ctrl-C or SIGTERM; a worker whose executions ended, or went back to their queues, exits 0
//
// # Output
//
// stdout carries the answer, in a stable order and with times in UTC; stderr
// carries everything else: what options are in effect, questions, errors, hints.
// Colours and lines that change in place appear on terminals alone; NO_COLOR and
// --no-color switch the colours off.
//
// With --json stdout carries one JSON document and nothing else:
//
//	process   {"run_id","method","state","reason","elapsed_ns","tasks":[…],"recovered":[…],"error","hint"}
//	rollback  the same; with --dry-run {"rollback":[name…]}
//	plan      {"method","tasks":[…],"in_flight","scheduled","interrupted","drift","unknown","missing","filtered","blocked"},
//	          also what process --dry-run prints
//	status    one key per section: "pending" (tasks), "completed", "failed", "running", "skipped", "rolled_back",
//	          "cancelled", "interrupted" (executions), "scheduled", "queues", "schedules", "approvals", "paused", "unknown", "missing", "drift",
//	          "locks", "open_runs" and "last_run"; with --history {"executions":[…]}
//	execute   {"id","name","state","duplicate"}
//	resolve   {"name","state"}
//	retry     the same as execute; of a selection {"retried","left_out"}, with --dry-run {"groups":[…]}
//	forget    {"name","forgotten"}; of a selection {"forgotten","left_out"}, with --dry-run {"groups":[…]}
//	failed    {"failed":[…],"more"}, with --groups {"groups":[…]}
//	why       {"execution","reasons":[{"kind","text",…}…]}
//	work      {"completed","failed","retried","released","skipped","cancelled","interrupted","rolled_back","reason","elapsed_ns"}
//	queues    {"queues":[…]}
//	workers   {"workers":[…]}
//	tags      {"since","tags":[…]}
//	monitor   {"ok","queues":[…]}
//	pause, resume  {"kind","name","paused","changed"}
//	schedule list  {"schedules":[…]}
//	schedule next  {"name","next":[…]}
//	schedule run   {"id","duplicate","holder_id"}
//	schedule pause, schedule resume  as pause and resume
//	prune     {"pruned"}
//	cancel    {"name","cancelled"}
//	approve, reject  {"id","name","by","execution","asked_by","since","state","answer","answered_at"}
//	rekey     {"key","changed","current","failed","missed","unknown"}; with --dry-run {"keys":[…]}
//	unlock    {"unlocked","holder"}
//	validate  {"valid","notices"}
//	verify, wait  {"ready","pending","in_flight","failed","interrupted","drift"}
//	make      {"files":[…]}
//	import    {"driver","dry_run","total","present","new","imported","errors":[…]}
//	version   {"version","revision","go"}
//
// A command that fails before it has an answer prints {"error","hint","exit_code"}.
// Keys are added over time, never renamed; those that hold nothing may be absent,
// lists named here with […] never are.
package cli
