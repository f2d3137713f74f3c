package guides_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// ImportTenant is found by its tags.
type ImportTenant struct {
	sequencer.Async
	Tenant int64 `json:"tenant"`
}

func (i *ImportTenant) Tags() []string {
	return []string{"user-import", "priority:high", fmt.Sprint("tenant:", i.Tenant)}
}

func (*ImportTenant) Handle(context.Context) error { return nil }

func countTenant(ctx context.Context, seq *sequencer.Sequencer, out *page) error {
	if _, err := seq.DispatchAll(ctx, &ImportTenant{Tenant: 1}, &ImportTenant{Tenant: 2}); err != nil {
		return err
	}
	rows, err := seq.Store().Executions(ctx, storage.Filter{Tag: "tenant:2"})
	out.say("%d with the tag tenant:2", len(rows))
	return err
}

func TestTags(t *testing.T) { // S16, Q8
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "import_tenant", sequencer.Make[ImportTenant])
	example(t, "Tags", reg, sequencer.Config{}, countTenant)
}
