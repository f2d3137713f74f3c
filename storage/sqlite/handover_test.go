package sqlite

import (
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/storage"
)

// A step of a line is what a run on SQLite consists of. Each statement that it has to
// prepare by itself costs more than running it.
func TestAStepOfALineInAUsersTransactionFindsItsStatementsPrepared_Q0_2(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := Open(ctx, filepath.Join(t.TempDir(), "ledger.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	worker := storage.Worker{ID: storage.NewID(), Purpose: "process"}
	if err := s.Join(ctx, worker); err != nil {
		t.Fatal(err)
	}
	flow := storage.Flow{ID: storage.NewID(), Kind: storage.FlowRun, Policy: storage.PolicyStop}
	queue := storage.PrivateQueue + flow.ID.String()
	rows := make([]storage.Execution, 4)
	var edges []storage.Edge
	for i := range rows {
		rows[i] = storage.Execution{ID: storage.NewID(), Name: "x", Kind: storage.Ordered, Queue: queue, FlowID: flow.ID, Position: i}
		if i > 0 {
			edges = append(edges, storage.Edge{From: rows[i-1].ID, To: rows[i].ID})
		}
	}
	claim := &storage.ClaimRequest{Worker: worker.ID, Queues: []string{queue}, Limit: 1}
	started, err := s.Enqueue(ctx, storage.EnqueueRequest{Flows: []storage.Flow{flow}, Executions: rows, Edges: edges, Claim: claim})
	if err != nil {
		t.Fatal(err)
	}
	held := started.Claimed.Executions[0]
	db, err := s.DB()
	if err != nil {
		t.Fatal(err)
	}
	if !s.writer.stmts.has(stepIn) { // without it a transaction of the store's own handle counts as a stranger's
		t.Error("the savepoint is not prepared")
	}
	missed := func() map[string]int {
		s.writer.stmts.mu.Lock()
		defer s.writer.stmts.mu.Unlock()
		return maps.Clone(s.writer.stmts.missed)
	}
	for i := range 2 { // the last two are other steps
		before := missed()
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("CREATE TABLE t%d (x)", i)); err != nil {
			t.Fatal(err)
		}
		done, err := s.FinishTx(ctx, Tx(tx), storage.FinishRequest{
			Worker: worker.ID, Claim: claim, Next: &rows[i+1],
			Outcomes: []storage.Outcome{{ID: held.ID, Delivery: held.Delivery, State: storage.Completed, Of: &held}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, missed()); diff != "" {
			t.Errorf("statements that were not prepared (-before +after):\n%s", diff)
		}
		if len(done.Claimed.Executions) != 1 || done.Claimed.Executions[0].ID != rows[i+1].ID {
			t.Fatalf("claimed %v, want the next of the line", done.Claimed.Executions)
		}
		held = done.Claimed.Executions[0]
	}
}
