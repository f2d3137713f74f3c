package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// All or nothing: when the cache cannot be warmed, the index is taken away again.
func ExampleTransactionalBatch() {
	reg := sequencer.NewRegistry()
	index := sequencer.Op("20240115120000_index")
	sequencer.RegisterFunc(reg, index.Name, func(context.Context) error { fmt.Println("index"); return nil },
		sequencer.Undo(func(context.Context) error { fmt.Println("no index"); return nil }))
	sequencer.RegisterFunc(reg, "20240115130000_warm_cache", func(context.Context) error { return errors.New("no memory") },
		sequencer.DependsOn(index))
	seq, err := sequencer.New(memory.New(), reg, sequencer.Config{
		Orchestrator: sequencer.TransactionalBatch().Strict(), // every operation, even the last, needs a Rollback
		Logger:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = seq.Process(context.Background(), sequencer.RunOptions{})
	fmt.Println(err)
	_, err = seq.Process(context.Background(), sequencer.RunOptions{Orchestrator: sequencer.TransactionalBatch(), Slots: 8})
	fmt.Println(err)
	// Output:
	// orchestrator transactional_batch: operation has no rollback: 20240115130000_warm_cache (give it Rollback(ctx) error, or do without strict)
	// index
	// no index
	// 20240115130000_warm_cache failed: no memory
}

// reversed runs the newest first. Dependencies, and the barrier around migrations, are
// added by themselves.
type reversed struct{}

func (reversed) Name() string { return "reversed" }

func (reversed) Arrange(p *sequencer.Plan) (sequencer.Arrangement, error) {
	after := make([][]int, len(p.Tasks))
	for i := range len(after) - 1 {
		after[i] = []int{i + 1}
	}
	return sequencer.Arrangement{Policy: storage.PolicyStop, After: after}, nil
}

// An orchestrator of one's own says who waits for whom.
func ExampleOrchestrator() {
	reg := sequencer.NewRegistry()
	for _, name := range []string{"20240115120000_first", "20240115130000_second"} {
		sequencer.RegisterFunc(reg, name, func(context.Context) error { fmt.Println(name); return nil })
	}
	seq, err := sequencer.New(memory.New(), reg, sequencer.Config{Orchestrator: reversed{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := seq.Process(context.Background(), sequencer.RunOptions{}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 20240115130000_second
	// 20240115120000_first
}
