package storagetest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gosequencer/sequencer/storage"
)

var readRules = []rule{
	{"S32.7 an empty ledger answers every question with nothing, and no error", func(t *testing.T, l *lab) {
		ctx := t.Context()
		nothing := func(what string, n int, err error) {
			t.Helper()
			if n != 0 || err != nil {
				t.Errorf("%s: %d rows and error %v, want nothing", what, n, err)
			}
		}
		executions, err := l.store.Executions(ctx, storage.Filter{Name: "x*", IDs: []storage.ID{l.id()}})
		nothing("Executions", len(executions), err)
		newest, err := l.store.Newest(ctx, storage.NewestRequest{})
		nothing("Newest", len(newest), err)
		attempts, err := l.store.Attempts(ctx)
		nothing("Attempts of nobody", len(attempts), err)
		attempts, err = l.store.Attempts(ctx, l.id())
		nothing("Attempts", len(attempts), err)
		flows, err := l.store.Flows(ctx, storage.FlowFilter{})
		nothing("Flows", len(flows), err)
		edges, err := l.store.Edges(ctx, l.id())
		nothing("Edges", len(edges), err)
		workers, err := l.store.Workers(ctx, l.id())
		nothing("Workers", len(workers), err)
		locks, err := l.store.Locks(ctx)
		nothing("Locks", len(locks), err)
		counts, err := l.store.Counts(ctx)
		nothing("Counts", len(counts), err)
		queues, err := l.store.Queues(ctx, l.now)
		nothing("Queues", len(queues), err)
		pauses, err := l.store.Pauses(ctx)
		nothing("Pauses", len(pauses), err)
		schedules, err := l.store.Schedules(ctx)
		nothing("Schedules", len(schedules), err)
		stats, err := l.store.Stats(ctx, storage.StatsFilter{})
		nothing("Stats", len(stats), err)
		audit, err := l.store.Audit(ctx, storage.AuditFilter{Target: "x"})
		nothing("Audit", len(audit), err)
	}},
	{"S32.1 S32.7 each field of a filter selects, and fields combine with AND", filterFields},
	{"S32.5 a name is exact or a pattern with *, and nothing else is special", namePatterns},
	{"S32.4 filters look at the state: skipped is not pending, rolled back not completed, retried not failed", func(t *testing.T, l *lab) {
		rows := map[storage.State]storage.ID{}
		for _, s := range storage.States {
			rows[s] = l.reach(s).ID
		}
		retried := l.reach(storage.Failed)
		l.operate(l.order(storage.ActRetry, retried.ID))
		for _, s := range storage.States {
			got := ids(l.list(storage.Filter{States: []storage.State{s}, Kinds: []storage.Kind{storage.Unlisted}}))
			want := []storage.ID{rows[s]}
			if s == storage.Pending {
				want = append(want, retried.ID)
			}
			l.same("rows that are "+string(s), got, want, anyOrder)
		}
	}},
	{"S32.2 S32.6 Q10.22 pages follow the cursor in both directions without gap or repeat, through equal instants", paging},
	{"S32.6 without a limit a listing has a hundred rows", func(t *testing.T, l *lab) {
		l.bulk(105)
		if got := l.list(storage.Filter{}); len(got) != 100 {
			t.Errorf("%d rows, want 100", len(got))
		}
		if got := l.list(storage.Filter{Limit: 103}); len(got) != 103 {
			t.Errorf("%d rows, want 103", len(got))
		}
	}},
	{"S32.6 Since is inclusive, Until is not", func(t *testing.T, l *lab) {
		var at []time.Time
		for i := range 3 {
			l.enqueue(l.row(strconv.Itoa(i)))
			at = append(at, l.now)
			l.tick(time.Second)
		}
		l.same("from the second to the third", names(l.list(storage.Filter{Since: at[1], Until: at[2]})), []string{"1"})
		l.same("from the second on", names(l.list(storage.Filter{Since: at[1], Oldest: true})), []string{"1", "2"})
		l.same("up to the second", names(l.list(storage.Filter{Until: at[1]})), []string{"0"})
	}},
	{"S5.6 S8.5 Newest is the effective row of each ordered operation and migration", newestRules},
	{"S5.6 Newest after a rollback shows rolled back, and after a retry pending", func(t *testing.T, l *lab) {
		w := l.join()
		l.enqueue(l.ordered("a"), l.ordered("b"))
		held := byName(l.claim(w))
		l.settle(w, outcome(held["a"], storage.Completed), outcome(held["b"], storage.Failed))
		u := l.get(held["a"].ID)
		u = u.Undo()
		u.ID = l.id()
		l.enqueue(u)
		l.settle(w, outcome(l.take(w), storage.Completed))
		l.operate(l.order(storage.ActRetry, held["b"].ID))
		got, err := l.store.Newest(t.Context(), storage.NewestRequest{})
		l.must(err, "Newest")
		l.same("effective states", byState(got), states{"a": storage.RolledBack, "b": storage.Pending})
	}},
	{"S32.1 Counts tells for each queue and state how many", func(t *testing.T, l *lab) {
		w := l.join()
		low := l.row("low")
		low.Queue = "low"
		l.enqueue(l.row("a"), l.row("b"), l.row("c"), low)
		got := l.claimAs(storage.ClaimRequest{Worker: w, Limit: 2}).Executions
		l.settle(w, outcome(got[0], storage.Completed))
		counts, err := l.store.Counts(t.Context())
		l.must(err, "Counts")
		l.same("counts", counts, []storage.Count{
			{Queue: "default", State: storage.Completed, N: 1},
			{Queue: "default", State: storage.Pending, N: 1},
			{Queue: "default", State: storage.Running, N: 1},
			{Queue: "low", State: storage.Pending, N: 1},
		}, cmpopts.SortSlices(func(a, b storage.Count) bool {
			return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.State, b.State)) < 0
		}))
	}},
	{"Q10.20 Q10.18 Queues tells how each queue with live rows stands, and which are paused, but nothing of private ones", func(t *testing.T, l *lab) {
		w := l.join()
		l.parked(w, "parked", 0)
		running, over, ready, younger, later, first, behind, private := l.row("running"), l.row("over"), l.row("ready"),
			l.row("younger"), l.row("later"), l.row("first"), l.row("behind"), l.row("private")
		l.enqueue(running)
		l.take(w)
		over.Queue, private.Queue, private.WorkerID = "done", "@"+w.String(), w
		l.enqueue(over)
		l.settle(w, outcome(l.claim(w, "done")[0], storage.Completed))
		later.Queue, later.Delay = "zeta", time.Hour
		l.enqueue(ready, private, later)
		l.tick(time.Minute)
		flow := storage.Flow{ID: l.id(), Kind: storage.FlowChain, Policy: storage.PolicyStop}
		first.FlowID, behind.FlowID = flow.ID, flow.ID
		l.send(storage.EnqueueRequest{
			Flows: []storage.Flow{flow}, Executions: []storage.Execution{first, behind}, Edges: []storage.Edge{{From: first.ID, To: behind.ID}},
		})
		l.enqueue(younger)
		l.pause(storage.PauseQueue, "zeta")
		l.pause(storage.PauseQueue, "idle")
		l.pause(storage.PauseOperation, "default")
		states := func(now time.Time) []storage.QueueState {
			got, err := l.store.Queues(t.Context(), now)
			l.must(err, "Queues")
			return got
		}
		idle := storage.QueueState{Queue: "idle", Paused: true}
		was := storage.QueueState{Queue: "default", Ready: 3, Blocked: 1, Parked: 1, Running: 1, Oldest: base}
		l.same("queues", states(l.now), []storage.QueueState{was, idle, {Queue: "zeta", Scheduled: 1, Paused: true}})
		due := storage.QueueState{Queue: "zeta", Ready: 1, Oldest: base.Add(time.Hour), Paused: true}
		l.same("queues an hour later", states(base.Add(time.Hour)), []storage.QueueState{was, idle, due})
		l.same("queues by the store's own clock, which is long past", states(time.Time{}), []storage.QueueState{was, idle, due})
	}},
	{"S32.2 Flows lists newest first, by id, kind and openness, up to a limit", func(t *testing.T, l *lab) {
		run, batch, over := l.draft(storage.PolicyStop, "a"), l.draft(storage.PolicyStop, "b"), l.draft(storage.PolicyStop, "c")
		batch.flow.Kind = storage.FlowBatch
		for _, f := range []*draft{run, batch, over} {
			f.enqueue()
			l.tick(time.Second)
		}
		for _, e := range l.claim(over.worker) {
			if e.FlowID == over.flow.ID {
				l.settle(over.worker, outcome(e, storage.Completed))
			}
		}
		for what, c := range map[string]struct {
			filter storage.FlowFilter
			want   []storage.ID
		}{
			"all":       {storage.FlowFilter{}, []storage.ID{over.flow.ID, batch.flow.ID, run.flow.ID}},
			"open":      {storage.FlowFilter{Open: true}, []storage.ID{batch.flow.ID, run.flow.ID}},
			"batches":   {storage.FlowFilter{Kinds: []storage.FlowKind{storage.FlowBatch, storage.FlowChain}}, []storage.ID{batch.flow.ID}},
			"open runs": {storage.FlowFilter{Kinds: []storage.FlowKind{storage.FlowRun}, Open: true}, []storage.ID{run.flow.ID}},
			"by id":     {storage.FlowFilter{IDs: []storage.ID{run.flow.ID, over.flow.ID}}, []storage.ID{over.flow.ID, run.flow.ID}},
			"one":       {storage.FlowFilter{Limit: 1}, []storage.ID{over.flow.ID}},
			"none":      {storage.FlowFilter{IDs: []storage.ID{l.id()}}, nil},
		} {
			got, err := l.store.Flows(t.Context(), c.filter)
			l.must(err, "Flows")
			var found []storage.ID
			for _, f := range got {
				found = append(found, f.ID)
			}
			l.same(what, found, c.want)
		}
	}},
	{"S32.1 Edges are those of one flow, settled or not", func(t *testing.T, l *lab) {
		f, other := l.draft(storage.PolicyStop, "a", "b needs a", "c after a", "c needs b"), l.draft(storage.PolicyStop, "x", "y needs x")
		f.enqueue()
		other.enqueue()
		f.end("a", storage.Completed)
		got, err := l.store.Edges(t.Context(), f.flow.ID)
		l.must(err, "Edges")
		l.same("edges", got, f.edges, cmpopts.SortSlices(func(a, b storage.Edge) bool {
			return cmp.Or(cmp.Compare(a.From.String(), b.From.String()), cmp.Compare(a.To.String(), b.To.String())) < 0
		}))
	}},
	{"S32.2 Attempts of several executions come oldest first", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"), l.row("b"))
		w := l.join()
		var want []storage.ID
		for range 2 {
			for _, e := range l.claim(w) {
				l.tick(time.Second)
				l.settle(w, failure(e, storage.Pending, "boom"))
				want = append(want, e.ID)
			}
		}
		rows := l.list(storage.Filter{})
		var got []storage.ID
		for _, a := range l.attempts(ids(rows)...) {
			got = append(got, a.ExecutionID)
		}
		l.same("order", got, want)
	}},
	{"S4.2 what a caller does to an answer does not reach the ledger", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.Input, a.Tags = []byte("input"), []string{"tag"}
		l.enqueue(a)
		a.Input[0], a.Tags[0] = 'X', "X"
		got := l.get(a.ID)
		got.Input[0], got.Tags[0] = 'Y', "Y"
		if e := l.get(a.ID); string(e.Input) != "input" || e.Tags[0] != "tag" {
			t.Errorf("input %q, tags %q; want them untouched", e.Input, e.Tags)
		}
	}},
}

// anyOrder compares ids as sets.
var anyOrder = cmpopts.SortSlices(func(a, b storage.ID) bool { return a.String() < b.String() })

func filterFields(t *testing.T, l *lab) {
	t.Helper()
	worker := l.join()
	f := l.draft(storage.PolicyStop, "alpha")
	a := f.member("alpha")
	a.Queue, a.Tags, a.Member, a.UniqueKey, a.Kind = "north", []string{"red", "round"}, "first", "key-a", storage.Ordered
	parsed, err := storage.ParseID("019b7d00-1111-7000-8000-00000000abcd")
	l.must(err, "ParseID")
	a.ID = parsed
	f.enqueue()
	held := l.claim(worker, "north")[0]

	b := l.row("beta")
	b.Tags, b.Method = []string{"red"}, "deferred"
	l.enqueue(b)
	l.settle(worker, failure(l.take(worker), storage.Failed, "boom"))
	u := l.get(b.ID)
	u = u.Undo()
	u.ID, u.Queue = l.id(), "south"
	l.enqueue(u)

	for what, c := range map[string]struct {
		filter storage.Filter
		want   []storage.ID
	}{
		"the zero filter": {storage.Filter{}, []storage.ID{a.ID, b.ID, u.ID}},
		"ids":             {storage.Filter{IDs: []storage.ID{a.ID, u.ID}}, []storage.ID{a.ID, u.ID}},
		"id prefix":       {storage.Filter{IDPrefix: "019b7d00-1"}, []storage.ID{a.ID}},
		"whole id":        {storage.Filter{IDPrefix: a.ID.String()}, []storage.ID{a.ID}},
		"no such prefix":  {storage.Filter{IDPrefix: "019b7d00-2"}, nil},
		"state":           {storage.Filter{States: []storage.State{storage.Running}}, []storage.ID{a.ID}},
		"states":          {storage.Filter{States: []storage.State{storage.Running, storage.Failed}}, []storage.ID{a.ID, b.ID}},
		"kind":            {storage.Filter{Kinds: []storage.Kind{storage.Ordered, storage.Undo}}, []storage.ID{a.ID, u.ID}},
		"name":            {storage.Filter{Name: "beta"}, []storage.ID{b.ID, u.ID}},
		"queue":           {storage.Filter{Queue: "north"}, []storage.ID{a.ID}},
		"tag of two":      {storage.Filter{Tag: "red"}, []storage.ID{a.ID, b.ID, u.ID}},
		"tag of one":      {storage.Filter{Tag: "round"}, []storage.ID{a.ID}},
		"half a tag":      {storage.Filter{Tag: "re"}, nil},
		"flow":            {storage.Filter{FlowID: f.flow.ID}, []storage.ID{a.ID}},
		"member":          {storage.Filter{Member: "first"}, []storage.ID{a.ID}},
		"method":          {storage.Filter{Method: "deferred"}, []storage.ID{b.ID}},
		"undoes":          {storage.Filter{Undoes: b.ID}, []storage.ID{u.ID}},
		"worker":          {storage.Filter{WorkerID: worker, States: []storage.State{storage.Running}}, []storage.ID{held.ID}},
		"error group":     {storage.Filter{Group: "group-boom"}, []storage.ID{b.ID}},
		"unique key":      {storage.Filter{UniqueKey: "key-a"}, []storage.ID{a.ID}},
		"and":             {storage.Filter{Name: "beta", Kinds: []storage.Kind{storage.Undo}}, []storage.ID{u.ID}},
		"and nothing":     {storage.Filter{Name: "beta", Queue: "north"}, nil},
		"limit":           {storage.Filter{Tag: "round", Limit: 1}, []storage.ID{a.ID}},
	} {
		l.same(what, ids(l.list(c.filter)), c.want, anyOrder)
	}
}

func namePatterns(t *testing.T, l *lab) {
	t.Helper()
	for _, name := range []string{"seed_users", "seedXusers", "seed_users_late", "late_seed", "100%", "1000", "a.b", "aXb", "back\\slash", "SEED_users"} {
		l.enqueue(l.row(name))
	}
	for pattern, want := range map[string][]string{
		"seed_users":    {"seed_users"},
		"seed_*":        {"seed_users", "seed_users_late"},
		"seed*":         {"seed_users", "seedXusers", "seed_users_late"},
		"*seed":         {"late_seed"},
		"*_users*":      {"seed_users", "seed_users_late", "SEED_users"},
		"s*_*e":         {"seed_users_late"},
		"*":             {"seed_users", "seedXusers", "seed_users_late", "late_seed", "100%", "1000", "a.b", "aXb", "back\\slash", "SEED_users"},
		"100%":          {"100%"},
		"100%*":         {"100%"},
		"a.b*":          {"a.b"},
		"seed?users":    nil,
		"seed_users**":  {"seed_users", "seed_users_late"},
		"back\\*":       {"back\\slash"},
		"[s]eed*":       nil,
		"seed_users_l*": {"seed_users_late"},
	} {
		got := names(l.list(storage.Filter{Name: pattern}))
		l.same("names like "+pattern, got, want, cmpopts.SortSlices(func(a, b string) bool { return a < b }))
	}
}

func paging(t *testing.T, l *lab) {
	t.Helper()
	w := l.join()
	var rows []storage.Execution
	for i := range 23 {
		e := l.row(fmt.Sprintf("row-%02d", i))
		rows = append(rows, e)
		if i%5 == 4 { // batches with equal instants
			l.enqueue(rows[i-4 : i+1]...)
			l.tick(time.Millisecond)
		}
	}
	l.enqueue(rows[20:]...)
	for i, e := range l.claim(w) { // so that pages mix what is live and what is over
		if i%2 == 0 {
			l.settle(w, outcome(e, storage.Completed))
		}
	}
	want := ids(rows)
	slices.SortFunc(want, func(a, b storage.ID) int { return cmp.Compare(a.String(), b.String()) })
	for _, oldest := range []bool{true, false} {
		for _, size := range []int{1, 4, 5, 23, 50} {
			f := storage.Filter{Oldest: oldest, Limit: size}
			var got []storage.ID
			for {
				page := l.list(f)
				if len(page) > size {
					t.Fatalf("a page of %d rows with limit %d", len(page), size)
				}
				got = append(got, ids(page)...)
				if len(page) < size {
					break
				}
				last := page[len(page)-1]
				f.After = &storage.Cursor{At: last.CreatedAt, ID: last.ID}
			}
			l.same(fmt.Sprintf("pages of %d, oldest first %v", size, oldest), got, want)
		}
		slices.Reverse(want)
	}
}

func newestRules(t *testing.T, l *lab) {
	t.Helper()
	w := l.join()
	end := func(name string, s storage.State, env string) {
		l.enqueue(l.ordered(name))
		o := outcome(l.take(w), s)
		o.Env = env
		l.settle(w, o)
		l.tick(time.Second)
	}
	end("cancelled-after", storage.Failed, "")
	end("cancelled-after", storage.Cancelled, "")
	end("only-cancelled", storage.Cancelled, "")
	end("newest-wins", storage.Completed, "")
	end("newest-wins", storage.Failed, "")
	end("bound-skip", storage.Completed, "")
	end("bound-skip", storage.Skipped, "staging")
	end("only-bound", storage.Skipped, "staging")
	end("free-skip", storage.Failed, "")
	end("free-skip", storage.Skipped, "")
	end("interrupted", storage.Interrupted, "")
	l.record(l.finished("migration", storage.Migration))
	plain := l.row("unlisted")
	plain.Queue = "low"
	l.enqueue(plain)
	// The live row is the older one by time: it was retried after its successor ended.
	end("live-first", storage.Failed, "")
	live := l.list(storage.Filter{Name: "live-first"})[0]
	end("live-first", storage.Completed, "")
	l.operate(l.order(storage.ActRetry, live.ID))

	common := states{
		"cancelled-after": storage.Failed, "newest-wins": storage.Failed, "free-skip": storage.Skipped,
		"interrupted": storage.Interrupted, "migration": storage.Completed, "live-first": storage.Pending,
	}
	for env, own := range map[string]states{
		"staging":    {"bound-skip": storage.Skipped, "only-bound": storage.Skipped},
		"production": {"bound-skip": storage.Completed},
		"":           {"bound-skip": storage.Completed},
	} {
		want := states{}
		for _, part := range []states{common, own} {
			for name, s := range part {
				want[name] = s
			}
		}
		got, err := l.store.Newest(t.Context(), storage.NewestRequest{Environment: env})
		l.must(err, "Newest")
		l.same(fmt.Sprintf("effective states in environment %q", env), byState(got), want)
		if len(got) != len(want) {
			t.Errorf("environment %q: %d rows, want %d, one for each name", env, len(got), len(want))
		}
	}
}
