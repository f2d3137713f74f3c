package sequencer_test

import (
	"context"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage/memory"
)

// Day is what a report is about.
type Day struct{ Date time.Time }

// A report each night, of the day before; after a downtime for the last seven.
func ExampleSchedule() {
	reg := sequencer.NewRegistry()
	report := sequencer.RegisterFuncOf(reg, "report", func(_ context.Context, day Day) error {
		fmt.Println("reporting on", day.Date.Format(time.DateOnly))
		return nil
	})
	sequencer.Schedule(reg, "nightly_report", "30 2 * * *",
		sequencer.ForTick(func(tick time.Time) sequencer.Operation { return report(Day{tick.AddDate(0, 0, -1)}) }),
		sequencer.InZone("Europe/Berlin"), sequencer.RunMissed(7), sequencer.OnQueue("low"))

	seq, err := sequencer.New(memory.New(), reg, sequencer.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	schedules, err := seq.Schedules(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range schedules {
		fmt.Println(s.Name, "dispatches", s.Operation, "at", s.Spec, "in", s.Zone)
	}
	// Output: nightly_report dispatches report at 30 2 * * * in Europe/Berlin
}

// A reminder that is due once, and at another time after all.
func ExampleSequencer_Defer() {
	reg := sequencer.NewRegistry()
	remind := sequencer.RegisterFuncOf(reg, "remind", func(_ context.Context, day Day) error {
		fmt.Println("reminding of", day.Date.Format(time.DateOnly))
		return nil
	})
	seq, err := sequencer.New(memory.New(), reg, sequencer.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	due := time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC)
	receipt, err := seq.Defer(ctx, remind(Day{due}), due.AddDate(100, 0, 0), sequencer.DedupeKey("christmas"))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := seq.Reschedule(ctx, receipt.ID, time.Now(), "no reason to wait"); err != nil {
		fmt.Println(err)
		return
	}
	if err := seq.Work(ctx, sequencer.WorkerConfig{StopWhenEmpty: true}); err != nil {
		fmt.Println(err)
	}
	// Output: reminding of 2026-12-24
}
