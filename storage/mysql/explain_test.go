package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
)

// explainer asks the server how it would run each statement before it runs it.
type explainer struct {
	wire
	tx    *sql.Tx
	plans map[string][]access
}

// access is how a statement reads one table.
type access struct{ table, kind, key string }

var explainable = regexp.MustCompile(`^\s*(SELECT|\(SELECT|INSERT|UPDATE|DELETE)\b`)

func (x *explainer) send(ctx context.Context, all []statement) error {
	for i := range all {
		if explainable.MatchString(all[i].sql) && !strings.Contains(all[i].sql, "@sequencer_now = ") {
			if err := x.explain(ctx, &all[i]); err != nil {
				return fmt.Errorf("%s: %w", all[i].sql, err)
			}
		}
		if err := x.wire.send(ctx, all[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (x *explainer) explain(ctx context.Context, st *statement) error {
	var m message
	m.spell(st)
	rows, err := x.tx.QueryContext(ctx, "EXPLAIN "+m.text.String(), m.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	x.plans[st.sql] = nil
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		dest := make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		line := map[string]string{}
		for i, c := range columns {
			line[c] = values[i].String
		}
		if line["select_type"] != "INSERT" && line["rows"] != "" { // what is written to is not read
			x.plans[st.sql] = append(x.plans[st.sql], access{line["table"], line["type"], line["key"]})
		}
	}
	return rows.Err()
}

// A step that reads all of a table that grows, or of one of its indexes.
func (a access) full() bool {
	small := a.table == "p" || strings.HasPrefix(a.table, "<") || a.table == "" // pauses, and what is made on the way
	return !small && (a.kind == "ALL" || a.kind == "index")
}

func TestHotStatementsReadNoTableInFull(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), testdb.MySQL(t), Options{})
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
	for i := range got.Executions {
		e := &got.Executions[i]
		o := storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed, Of: e}
		switch i % 10 {
		case 1:
			o.State, o.Failure = storage.Pending, &storage.Failure{Outcome: "error"}
		case 2:
			o.State, o.Park, o.Excuse = storage.Pending, true, true
		case 3:
			o.State, o.Failure = storage.Failed, &storage.Failure{Outcome: "error", Group: "g"}
		}
		outcomes = append(outcomes, o)
	}
	finish := func(look bool, outcomes []storage.Outcome) func(ctx context.Context, q *session) error {
		return func(ctx context.Context, q *session) error {
			f := finishing{request: storage.FinishRequest{Worker: w, Outcomes: outcomes, Claim: &claim}, look: look}
			if err := f.run(ctx, q); err != nil {
				return err
			}
			if n := len(f.claim.rows); n == 0 {
				t.Error("nothing was claimed")
			}
			return nil
		}
	}
	tests := []struct {
		name string
		run  func(ctx context.Context, q *session) error
	}{
		{"finish one", finish(false, outcomes[:1])},
		{"finish, settle and claim", finish(false, outcomes)},
		{"finish with a look", finish(true, outcomes)},
		{"enqueue", func(ctx context.Context, q *session) error {
			keyed := execution("keyed")
			keyed.UniqueKey = "key"
			e := enqueuing{q: q, request: storage.EnqueueRequest{Executions: []storage.Execution{execution("plain"), keyed}}}
			return e.run(ctx)
		}},
		{"newest", func(ctx context.Context, q *session) error {
			return q.each(ctx, func(scanner) error { return nil }, newestSQL, text("test"))
		}},
		{"renew", func(ctx context.Context, q *session) error {
			q.queue(progressSQL, 1, 1, idArg(outcomes[0].ID), w[:], 1)
			return q.each(ctx, func(scanner) error { return nil }, askedSQL, w[:])
		}},
		{"rescue", func(ctx context.Context, q *session) error {
			if err := bury(ctx, q, storage.RescueRequest{Worker: w}); err != nil {
				return err
			}
			q.queueScan(func(scanner) error { return nil }, orphansSQL, idList{outcomes[0].ID})
			return q.each(ctx, func(scanner) error { return nil }, leftBehindSQL, 100)
		}},
		{"prune", func(ctx context.Context, q *session) error {
			week := (7 * 24 * time.Hour).Microseconds()
			return q.each(ctx, func(scanner) error { return nil }, pruneSQL, week, week, week, week, 1000)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { explainAll(t, s, test.run) })
	}
	for name, f := range map[string]storage.Filter{
		"by name":  {Name: "over-1"},
		"by flow":  {FlowID: storage.NewID()},
		"by tag":   {Tag: "t"},
		"by group": {Group: "g"},
		"by key":   {UniqueKey: "k"},
		"by id":    {IDs: []storage.ID{storage.NewID()}},
	} {
		t.Run(name, func(t *testing.T) {
			explainAll(t, s, func(ctx context.Context, q *session) error {
				f.States = []storage.State{storage.Completed} // the live part may be read in full
				query, args, _, err := listing(&f)
				if err != nil {
					return err
				}
				return q.each(ctx, func(scanner) error { return nil }, query, args...)
			})
		})
	}
}

// explainAll fails for each statement that run sends and that reads a table in full.
func explainAll(t *testing.T, s *Store, run func(ctx context.Context, q *session) error) {
	t.Helper()
	tx, err := s.pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	x := &explainer{wire: sqlWire{tx}, tx: tx, plans: map[string][]access{}}
	q := &session{wire: x, now: micro(time.Now())}
	q.queueNow()
	if err := run(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if err := q.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(x.plans) == 0 {
		t.Error("nothing was explained")
	}
	for query, plan := range x.plans {
		for _, a := range plan {
			if a.full() {
				t.Errorf("%s\n\nreads %s in full:\n%+v", query, a.table, plan)
			}
		}
	}
}

// crowd fills a ledger with 20,000 pending rows, some of them members of flows, and
// 10,000 that are over, and a worker.
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
	rows := make([]storage.Execution, 20_000)
	for i := range rows {
		rows[i] = execution("plain")
		if i%100 == 0 {
			rows[i].Kind = storage.Ordered
		}
	}
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: rows}); err != nil {
		t.Fatal(err)
	}
	over := make([]storage.Execution, 10_000)
	for i := range over {
		over[i] = execution(fmt.Sprintf("over-%d", i))
		over[i].State = storage.Completed
	}
	if _, err := s.Record(t.Context(), storage.RecordRequest{Executions: over}); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"live", "history", "flows", "edges", "workers", "marks"} {
		if _, err := s.pool.ExecContext(t.Context(), "ANALYZE TABLE sequencer_"+table); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func execution(name string) storage.Execution {
	return storage.Execution{ID: storage.NewID(), Name: name, Kind: storage.Unlisted, Queue: "default", OnLoss: storage.LossRetry}
}
