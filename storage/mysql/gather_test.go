package mysql_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
)

// Callers that enqueue at once share statements; what one of them repeats, or
// cannot write, is its own affair.
func TestCallersThatEnqueueTogetherDoNotSufferFromEachOther(t *testing.T) {
	t.Parallel()
	s := setUp(t, connect(t, testdb.MySQL(t)))
	plain := func(name string) storage.Execution {
		return storage.Execution{ID: storage.NewID(), Name: name, Kind: storage.Unlisted, Queue: "q", OnLoss: storage.LossRetry}
	}
	again := plain("again")
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{again}}); err != nil {
		t.Fatal(err)
	}
	const callers = 40
	var all sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		all.Go(func() {
			row := plain("fresh")
			switch i % 4 {
			case 0:
				row = again
			case 1:
				row.Name = "" // refused before it is sent
			case 2:
				row.Method = strings.Repeat("x", 1000) // refused by the server
			}
			_, errs[i] = s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{row}})
		})
	}
	all.Wait()
	for i, err := range errs {
		if bad := i%4 == 1 || i%4 == 2; bad != (err != nil) {
			t.Errorf("caller %d: %v, want an error: %v", i, err, bad)
		}
	}
	rows, err := s.Executions(t.Context(), storage.Filter{Limit: 1000})
	if err != nil || len(rows) != 1+callers/4 {
		t.Errorf("%d rows, %v; want the one that is repeated and %d fresh ones", len(rows), err, callers/4)
	}
}
