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

// A repeat is told by its ids also when others share its statement, and when its
// execution is over already.
func TestARepeatOfWhatIsOverIsNotRunAgainWhenOthersShareItsStatement(t *testing.T) { // Q0.6
	t.Parallel()
	s := setUp(t, connect(t, testdb.MySQL(t)))
	over := job("over")
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{over}}); err != nil {
		t.Fatal(err)
	}
	drain(t, s, 1, 1)
	const callers = 200
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			row := job("fresh")
			if i%50 == 49 { // behind others
				row = over
			}
			if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{row}}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	rows, err := s.Executions(t.Context(), storage.Filter{Name: "over"})
	if err != nil || len(rows) != 1 || rows[0].State != storage.Completed {
		t.Errorf("%d rows of what is over, %v; want the one that is completed", len(rows), err)
	}
	if rows, err = s.Executions(t.Context(), storage.Filter{Name: "fresh", Limit: 1000}); err != nil || len(rows) != callers-callers/50 {
		t.Errorf("%d fresh rows, %v; want %d", len(rows), err, callers-callers/50)
	}
}
