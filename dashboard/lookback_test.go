package dashboard

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// A list that is read in stretches has what reading it at once has, in the same order.
func TestLookingBackFindsWhatIsThere(t *testing.T) {
	t.Parallel()
	store := memory.New()
	seq, err := sequencer.New(store, nil, sequencer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := seq.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	var rows []storage.Execution
	for i := range 300 {
		at := time.Now().Add(-time.Duration(i*i) * time.Minute)
		rows = append(rows, storage.Execution{
			ID: storage.NewID(), Name: fmt.Sprintf("op_%d", i), Kind: storage.Unlisted, Queue: fmt.Sprintf("q%d", i%3), Method: "import", State: storage.Completed,
			CreatedAt: at, StartedAt: at, FinishedAt: at, OnLoss: storage.LossRetry, Priority: 2,
		})
	}
	if n, err := store.Record(t.Context(), storage.RecordRequest{Executions: rows}); err != nil || n != len(rows) {
		t.Fatalf("recorded %d, %v", n, err)
	}
	s := &server{seq: seq, o: Options{Refresh: time.Second}}
	p := s.request(context.WithoutCancel(t.Context()), httptest.NewRequest("GET", "/executions", nil))
	for _, f := range []storage.Filter{
		{Queue: "q1"}, {Queue: "q9"}, {Name: "op_1*"}, {Queue: "q2", States: []storage.State{storage.Completed}}, {Queue: "q0", Since: time.Now().Add(-30 * 24 * time.Hour)},
	} {
		f.Limit = 1000
		want, err := store.Executions(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		f.Limit = 7
		var got []storage.ID
		for {
			read, err := p.lookBack(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			page, further := read.rows, read.further
			for i := range page {
				got = append(got, page[i].ID)
			}
			switch {
			case further != nil:
				f.After = cursorOf(cursorText(further.At, further.ID))
			case len(page) == f.Limit:
				f.After = &storage.Cursor{At: page[6].CreatedAt, ID: page[6].ID}
			default:
				f.After = nil
			}
			if f.After == nil {
				break
			}
		}
		all := []storage.ID{}
		for i := range want {
			all = append(all, want[i].ID)
		}
		if !slices.Equal(got, all) {
			t.Errorf("%+v: got %d executions, want %d, or another order", f, len(got), len(all))
		}
	}
}
