package postgres

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
)

// explainer asks the server how it would run each statement before it runs it.
type explainer struct {
	pgxWire
	tx    pgx.Tx
	plans map[string]string
}

var explainable = regexp.MustCompile(`^\s*(WITH|SELECT|INSERT|UPDATE|DELETE)\b`)

func (x *explainer) send(ctx context.Context, all []statement) error {
	for _, st := range all {
		if !explainable.MatchString(st.sql) {
			continue
		}
		given, err := x.explain(ctx, "EXPLAIN "+st.sql, st.args...)
		if err != nil {
			return err
		}
		generic, err := x.generic(ctx, st)
		if err != nil {
			return err
		}
		x.plans[st.sql] = given + "\n\nand without knowing the arguments\n\n" + generic
	}
	return x.pgxWire.send(ctx, all)
}

func (x *explainer) explain(ctx context.Context, sql string, args ...any) (string, error) {
	rows, err := x.tx.Query(ctx, sql, args...)
	if err != nil {
		return "", err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(lines, "\n"), err
}

// generic is the plan that is kept for any arguments.
func (x *explainer) generic(ctx context.Context, st statement) (string, error) {
	if len(st.args) == 0 {
		return "", nil
	}
	if _, err := x.tx.Exec(ctx, "SET LOCAL plan_cache_mode = force_generic_plan"); err != nil {
		return "", err
	}
	if _, err := x.tx.Exec(ctx, "PREPARE explained AS "+st.sql); err != nil {
		return "", err
	}
	nulls := strings.TrimSuffix(strings.Repeat("NULL,", len(st.args)), ",")
	plan, err := x.explain(ctx, "EXPLAIN EXECUTE explained ("+nulls+")", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "", err
	}
	_, err = x.tx.Exec(ctx, "DEALLOCATE explained")
	return plan, err
}

// fullRead is a step that reads all of a part of the ledger, or all of what an index
// holds of it, to keep it aside.
var fullRead = regexp.MustCompile(`Seq Scan on sequencer_(live|history)\b|hashed SubPlan`)

// In its own transactions the store sends batches, with its own settings; in those
// of a caller the server's settings stay, and an attempt finishes itself alone.
func TestHotStatementsReadNoTableInFull(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), testdb.Postgres(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := crowd(t, s)
	claim := storage.ClaimRequest{Worker: w, Queues: []string{"default", "mail"}, Limit: 500, Names: []string{"plain", "other"}}
	got, err := s.Claim(t.Context(), claim)
	if err != nil || len(got.Executions) != 500 {
		t.Fatalf("claimed %d, %v", len(got.Executions), err)
	}
	var outcomes []storage.Outcome
	failed := false // one member; the others merely complete
	for i, e := range got.Executions {
		o := storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed}
		if !failed && !e.FlowID.IsZero() {
			failed, o.State = true, storage.Failed
		}
		if i%10 == 1 {
			o.State, o.Failure = storage.Pending, &storage.Failure{Outcome: "error"}
		}
		outcomes = append(outcomes, o)
	}

	tests := []struct {
		name    string
		callers bool // in a caller's transaction too
		run     func(ctx context.Context, q *session) error
	}{
		{"finish one", true, func(ctx context.Context, q *session) error {
			f := finishing{request: storage.FinishRequest{Worker: w, Outcomes: outcomes[:1], Claim: &claim}}
			return f.run(ctx, q)
		}},
		{"defer one", true, func(ctx context.Context, q *session) error {
			f := finishing{request: storage.FinishRequest{Worker: w, Outcomes: outcomes[1:2]}}
			return f.run(ctx, q)
		}},
		{"finish, settle and claim", false, func(ctx context.Context, q *session) error {
			f := finishing{request: storage.FinishRequest{Worker: w, Outcomes: outcomes, Claim: &claim}}
			if err := f.run(ctx, q); err != nil {
				return err
			}
			if err := q.flush(ctx); err != nil {
				return err
			}
			if n := len(f.claim.result().Executions); n != 500 || len(f.flows) == 0 {
				t.Errorf("claimed %d and settled %d flows", n, len(f.flows))
			}
			return nil
		}},
		{"enqueue", true, func(ctx context.Context, q *session) error {
			keyed := execution("keyed")
			keyed.UniqueKey = "key"
			e := enqueuing{q: q, request: storage.EnqueueRequest{Executions: []storage.Execution{execution("plain"), keyed}}}
			return e.run(ctx)
		}},
		{"enqueue plainly", true, func(ctx context.Context, q *session) error {
			e := enqueuing{q: q, request: storage.EnqueueRequest{Executions: []storage.Execution{execution("plain"), execution("plain")}}}
			if err := e.run(ctx); err != nil {
				return err
			}
			return q.flush(ctx)
		}},
		{"finish cleanly", true, func(ctx context.Context, q *session) error {
			o := outcomes[2]
			o.Of = &got.Executions[2]
			f := finishing{request: storage.FinishRequest{Worker: w, Outcomes: []storage.Outcome{o}}}
			return f.run(ctx, q)
		}},
		{"newest", true, func(ctx context.Context, q *session) error {
			return q.each(ctx, func(scanner) error { return nil }, newestSQL, "")
		}},
		{"renew", false, func(ctx context.Context, q *session) error {
			q.queue(progressSQL, w.String(), idArray([]storage.ID{outcomes[0].ID}), []int32{1}, []int64{1}, []int64{1}, nil)
			return q.each(ctx, func(scanner) error { return nil }, askedSQL, w.String())
		}},
		{"rescue", false, func(ctx context.Context, q *session) error {
			q.queue(buryDeadSQL, q.now, w.String(), idArray(nil))
			return q.each(ctx, func(scanner) error { return nil }, takeOverSQL, w.String(), 100)
		}},
		{"prune", true, func(ctx context.Context, q *session) error {
			week := (7 * 24 * time.Hour).Microseconds()
			_, err := q.exec(ctx, pruneSQL, q.now, week, week, week, 1000)
			return err
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { explainAll(t, s, openSQL, test.run) })
		if test.callers {
			t.Run(test.name+" for a caller", func(t *testing.T) { explainAll(t, s, "SELECT 1", test.run) })
		}
	}
}

// explainAll fails for each statement that run sends and that reads a part in full.
func explainAll(t *testing.T, s *Store, first string, run func(ctx context.Context, q *session) error) {
	t.Helper()
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	x := &explainer{pgxWire: pgxWire{tx}, tx: tx, plans: map[string]string{}}
	q := &session{wire: x, now: micro(time.Now())}
	if err := run(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if err := q.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(x.plans) == 0 {
		t.Error("nothing was explained")
	}
	for sql, plan := range x.plans {
		if fullRead.MatchString(plan) {
			t.Errorf("%s\n\nis run as\n\n%s", sql, plan)
		}
	}
}

// crowd fills a ledger with 50,000 pending rows, some of them members of flows,
// 20,000 that are over, and a worker.
func crowd(t *testing.T, s *Store) storage.ID {
	t.Helper()
	w := storage.NewID()
	if err := s.Join(t.Context(), storage.Worker{ID: w, Lease: time.Hour}); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		r := storage.EnqueueRequest{Flows: []storage.Flow{{ID: storage.NewID(), Kind: storage.FlowChain, Policy: storage.PolicyStop}}}
		for i := range 5 {
			e := execution("member")
			e.FlowID = r.Flows[0].ID
			r.Executions = append(r.Executions, e)
			if i > 0 {
				r.Edges = append(r.Edges, storage.Edge{From: r.Executions[i-1].ID, To: e.ID, Needs: true})
			}
		}
		if _, err := s.Enqueue(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	rows := make([]storage.Execution, 50_000)
	for i := range rows {
		rows[i] = execution("plain")
		if i%100 == 0 {
			rows[i].Kind = storage.Ordered
		}
	}
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: rows}); err != nil {
		t.Fatal(err)
	}
	over := make([]storage.Execution, 20_000)
	for i := range over {
		over[i] = execution("over-" + storage.NewID().String())
		over[i].State = storage.Completed
	}
	if _, err := s.Record(t.Context(), storage.RecordRequest{Executions: over}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.pool.Exec(t.Context(), `ANALYZE sequencer_live, sequencer_history, sequencer_flows, sequencer_edges, sequencer_workers`); err != nil {
		t.Fatal(err)
	}
	return w
}

func execution(name string) storage.Execution {
	return storage.Execution{ID: storage.NewID(), Name: name, Kind: storage.Unlisted, Queue: "default", OnLoss: storage.LossRetry}
}
