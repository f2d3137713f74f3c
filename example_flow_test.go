package sequencer_test

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage/memory"
)

// Import is one member of a batch.
type Import struct {
	File string `json:"file"`
}

// Handle keeps a result, which others of the flow may read.
func (i *Import) Handle(ctx context.Context) error {
	fmt.Println("importing", i.File)
	return sequencer.SetResult(ctx, len(i.File))
}

// library is a sequencer with the operations of these examples.
func library() (*sequencer.Sequencer, error) {
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "import", sequencer.Make[Import])
	for _, name := range []string{"fetch", "index", "notify", "cleanup"} {
		sequencer.RegisterFunc(reg, name, func(ctx context.Context) error {
			fmt.Println(sequencer.Current(ctx).Name)
			return nil
		})
	}
	sequencer.RegisterFunc(reg, "alert", func(ctx context.Context) error {
		if f, ok := sequencer.FailureOf(ctx); ok {
			fmt.Printf("%s failed at attempt %d: %s\n", f.Name, f.Attempt, f.Message)
		}
		return nil
	})
	sequencer.RegisterFunc(reg, "publish", func(context.Context) error { return fmt.Errorf("the printer is out of paper") })
	return sequencer.New(memory.New(), reg, sequencer.Config{})
}

// Members run in any order, as many at a time as there are slots; here one. What is
// called then, at a failure and finally are operations, stored with the batch.
func ExampleBatch() {
	ctx := context.Background()
	seq, err := library()
	if err != nil {
		fmt.Println(err)
		return
	}
	files := []*Import{{File: "users"}, {File: "orders"}}
	flow, err := seq.Batch(sequencer.Each(files)...).Name("import").
		Then(seq.Chain(sequencer.Named("index", nil), sequencer.Named("notify", nil))).
		Catch(sequencer.Named("alert", nil)).
		Finally(sequencer.Named("cleanup", nil)).
		Dispatch(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := seq.Work(ctx, sequencer.WorkerConfig{Slots: 1, StopWhenEmpty: true}); err != nil {
		fmt.Println(err)
	}
	st, err := flow.Wait(ctx)
	fmt.Println(st.Name, st.State, st.Completed, "of", st.Total, err)
	// Output:
	// importing users
	// importing orders
	// index
	// notify
	// cleanup
	// import completed 2 of 2 <nil>
}

// Each step is queued in the transaction that completes the one before; a batch may be
// a step. What fails for good ends the chain.
func ExampleChain() {
	ctx := context.Background()
	seq, err := library()
	if err != nil {
		fmt.Println(err)
		return
	}
	flow, err := seq.Chain(
		sequencer.Named("fetch", nil),
		seq.Batch(&Import{File: "users"}, &Import{File: "orders"}),
		sequencer.Named("publish", nil),
		sequencer.Named("notify", nil),
	).OnQueue("podcasts").Catch(sequencer.Named("alert", nil)).Dispatch(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := seq.Work(ctx, sequencer.WorkerConfig{Queues: []string{"podcasts"}, Slots: 1, StopWhenEmpty: true}); err != nil {
		fmt.Println(err)
	}
	_, err = flow.Wait(ctx)
	fmt.Println(err)
	// Output:
	// fetch
	// importing users
	// importing orders
	// publish failed at attempt 1: the printer is out of paper
	// chain is failed: publish failed: the printer is out of paper
}
