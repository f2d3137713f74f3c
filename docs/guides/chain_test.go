package guides_test

import (
	"context"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// ProcessPodcast, OptimizePodcast and ReleasePodcast come one after the other.
type (
	ProcessPodcast  struct{ Podcast int }
	OptimizePodcast struct {
		Podcast int
		api     *flaky
	}
	ReleasePodcast struct{ Podcast int }
)

func (*ProcessPodcast) Handle(ctx context.Context) error {
	return sequencer.SetResult(ctx, "podcast.wav")
}

func (o *OptimizePodcast) Handle(ctx context.Context) error {
	file, err := sequencer.ResultOf[string](ctx, "process_podcast") // what that step kept
	if err != nil {
		return err
	}
	return o.api.Post(ctx, "https://api.example.com/optimize", file)
}

func (*ReleasePodcast) Handle(context.Context) error { return nil }

func releasePodcast(ctx context.Context, seq *sequencer.Sequencer) error {
	_, err := seq.Chain(&ProcessPodcast{7}, &OptimizePodcast{Podcast: 7}, &ReleasePodcast{7}).Dispatch(ctx)
	return err
}

func releaseElsewhere(ctx context.Context, seq *sequencer.Sequencer) error {
	_, err := seq.Chain(&ProcessPodcast{7}, &OptimizePodcast{Podcast: 7}, &ReleasePodcast{7}).
		OnConnection("redis").
		OnQueue("podcasts").
		Catch(&Alert{}).
		Dispatch(ctx)
	return err
}

func TestChains(t *testing.T) { // Q6, S18.1 to S18.4
	for name, c := range map[string]struct {
		failures int
		run      func(context.Context, *sequencer.Sequencer) error
	}{
		"Chain":        {0, releasePodcast},
		"ChainFailure": {1, releaseElsewhere},
	} {
		reg := sequencer.NewRegistry()
		out, api := new(page), &flaky{failures: c.failures}
		sequencer.Register(reg, "process_podcast", sequencer.Make[ProcessPodcast])
		sequencer.Register(reg, "optimize_podcast", func() *OptimizePodcast { return &OptimizePodcast{api: api} })
		sequencer.Register(reg, "release_podcast", sequencer.Make[ReleasePodcast])
		sequencer.Register(reg, "alert", func() *Alert { return &Alert{out: out} })
		cfg := sequencer.Config{Connections: map[string]storage.Store{"redis": memory.New()}}
		example(t, name, reg, cfg, func(ctx context.Context, seq *sequencer.Sequencer, shown *page) error {
			out.into = shown
			if err := c.run(ctx, seq); err != nil {
				return err
			}
			on, err := seq.On("redis")
			if err != nil {
				return err
			}
			return on.Work(ctx, sequencer.WorkerConfig{Queues: []string{"podcasts"}, StopWhenEmpty: true})
		})
	}
}
