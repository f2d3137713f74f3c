package guides_test

import (
	"context"
	"testing"

	"github.com/gosequencer/sequencer"
)

// Import imports things of one kind.
type Import struct {
	Kind string `json:"kind"`

	api *flaky
	out *page
}

func (i *Import) Handle(ctx context.Context) error {
	i.out.say("importing %s", i.Kind)
	return i.api.Post(ctx, "https://api.example.com/"+i.Kind, nil)
}

func importThree(ctx context.Context, seq *sequencer.Sequencer) error {
	_, err := seq.Batch(&Import{Kind: "users"}, &Import{Kind: "products"}, &Import{Kind: "orders"}).Dispatch(ctx)
	return err
}

// Report, Alert and Cleanup are what a batch calls.
type (
	Report  struct{ out *page }
	Alert   struct{ out *page }
	Cleanup struct {
		Key string `json:"key"`
		out *page
	}
)

func (r *Report) Handle(context.Context) error {
	r.out.say("report: all is imported")
	return nil
}

func (a *Alert) Handle(ctx context.Context) error {
	failure, _ := sequencer.FailureOf(ctx)
	a.out.say("alert: %s failed: %s", failure.Name, failure.Message)
	return nil
}

func (c *Cleanup) Handle(context.Context) error {
	c.out.say("forget %s", c.Key)
	return nil
}

func importWithCallbacks(ctx context.Context, seq *sequencer.Sequencer) error {
	_, err := seq.Batch(&Import{Kind: "users"}, &Import{Kind: "products"}).
		Name("import").
		Then(&Report{}).                  // all completed
		Catch(&Alert{}).                  // the first failure
		Finally(&Cleanup{Key: "import"}). // all have ended, however
		Dispatch(ctx)
	return err
}

// ProcessData looks at its batch, and adds to it.
type ProcessData struct {
	Part int `json:"part"`

	out *page
}

func (p *ProcessData) Handle(ctx context.Context) error {
	batch := sequencer.CurrentBatch(ctx)
	if batch.Cancelled() {
		return sequencer.Cancel("the batch is not wanted any more")
	}
	p.out.say("processing part %d of batch %s", p.Part, batch.Name)
	if p.Part > 1 {
		return nil
	}
	return batch.Add(ctx, &ProcessData{Part: p.Part + 1})
}

func processParts(ctx context.Context, seq *sequencer.Sequencer) error {
	_, err := seq.Batch(&ProcessData{Part: 1}).Name("parts").Dispatch(ctx)
	return err
}

func TestBatches(t *testing.T) { // Q5, S18.6 to S18.12
	for name, c := range map[string]struct {
		failures int
		run      func(context.Context, *sequencer.Sequencer) error
	}{
		"Batch":          {0, importThree},
		"BatchCallbacks": {0, importWithCallbacks},
		"BatchFailure":   {1, importWithCallbacks},
		"Batchable":      {0, processParts},
	} {
		reg := sequencer.NewRegistry()
		out, api := new(page), &flaky{failures: c.failures}
		sequencer.Register(reg, "import", func() *Import { return &Import{api: api, out: out} })
		sequencer.Register(reg, "report", func() *Report { return &Report{out: out} })
		sequencer.Register(reg, "alert", func() *Alert { return &Alert{out: out} })
		sequencer.Register(reg, "cleanup", func() *Cleanup { return &Cleanup{out: out} })
		sequencer.Register(reg, "process_data", func() *ProcessData { return &ProcessData{out: out} })
		example(t, name, reg, sequencer.Config{}, func(ctx context.Context, seq *sequencer.Sequencer, shown *page) error {
			out.into = shown
			return c.run(ctx, seq)
		})
	}
}
