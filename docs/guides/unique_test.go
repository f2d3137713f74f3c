package guides_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
)

// ProcessUser is queued at most once per user.
type ProcessUser struct {
	sequencer.Async
	User int64 `json:"user"`
}

func (p *ProcessUser) UniqueID() string { return fmt.Sprint("process-user-", p.User) }

func (*ProcessUser) UniqueFor() time.Duration { return time.Hour }

func (*ProcessUser) Handle(ctx context.Context) error { return work(ctx, time.Minute) }

func dispatchTwice(ctx context.Context, seq *sequencer.Sequencer, out *page) error {
	first, err := seq.Dispatch(ctx, &ProcessUser{User: 7})
	if err != nil {
		return err
	}
	second, err := seq.Dispatch(ctx, &ProcessUser{User: 7})
	if err != nil {
		return err
	}
	out.say("a duplicate of the first: %t", second.Duplicate && second.HolderID == first.ID)
	return nil
}

func TestUnique(t *testing.T) { // S14, Q4
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "process_user", sequencer.Make[ProcessUser])
	example(t, "Unique", reg, sequencer.Config{}, dispatchTwice)
}
