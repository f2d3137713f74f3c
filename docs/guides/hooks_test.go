package guides_test

import (
	"context"
	"testing"

	"github.com/gosequencer/sequencer"
)

// ImportFile tells how it goes.
type ImportFile struct {
	sequencer.Async
	File string `json:"file"`

	api *flaky
	out *page
}

func (i *ImportFile) Before(context.Context) error { // before each attempt
	i.out.say("before: status of %s is running", i.File)
	return nil
}

func (i *ImportFile) Handle(ctx context.Context) error { return i.api.Post(ctx, i.File, nil) }

func (i *ImportFile) After(context.Context) error { // once, when it has completed
	i.out.say("after: tell the administrators")
	return nil
}

func (i *ImportFile) Failed(_ context.Context, cause error) error { // once, when it has failed for good
	i.out.say("failed: delete %s, because of %v", i.File, cause)
	return nil
}

func TestHooks(t *testing.T) { // S17, Q9
	for name, failures := range map[string]int{"HookAfter": 0, "HookFailed": 1} {
		reg := sequencer.NewRegistry()
		out := new(page)
		sequencer.Register(reg, "import_file", func() *ImportFile { return &ImportFile{api: &flaky{failures: failures}, out: out} })
		example(t, name, reg, sequencer.Config{}, func(ctx context.Context, seq *sequencer.Sequencer, shown *page) error {
			out.into = shown
			_, err := seq.Dispatch(ctx, &ImportFile{File: "users.csv"})
			return err
		})
	}
}
