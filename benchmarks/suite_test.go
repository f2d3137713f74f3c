package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// needServer skips, or fails where the store is required, when it cannot be reached.
func needServer(t *testing.T, p placeKind) {
	t.Helper()
	_, err := p.version(t.Context())
	if err == nil {
		return
	}
	required := strings.FieldsFunc(os.Getenv("SEQUENCER_TEST_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(required, "all") || slices.Contains(required, p.store) {
		t.Fatalf("%s is required and cannot be reached: %v", p.store, err)
	}
	t.Skipf("left out: %s cannot be reached: %v", p.store, err)
}

// What a contender has code of its own for: to insert, to fill a backlog and work it
// off, to work on what comes in.
func TestEveryContenderWorks(t *testing.T) {
	t.Parallel()
	for _, p := range places {
		t.Run(p.store, func(t *testing.T) {
			t.Parallel()
			needServer(t, p)
			for _, c := range contenders {
				if c.store != p.store {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					for _, w := range smallWorks(t, "insert-8", "drain", "latency-same") {
						checkWork(t, c, w)
					}
				})
			}
		})
	}
}

// What needs several processes is the same code for all, so one contender that needs
// no server tells whether it works.
func TestOneContenderDoesEveryWork(t *testing.T) {
	t.Parallel()
	for _, c := range ours {
		if c.store == "sqlite" {
			for _, w := range smallWorks(t, "strange") {
				if n := checkWork(t, c, w); n != 6 {
					t.Errorf("%d figures for %s, want 6", n, w.name)
				}
			}
		}
	}
	for _, w := range smallWorks(t, "insert-64", "insert-bulk", "first-20k", "latency-other", "rescue") {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			if n := checkWork(t, goqitePeer, w); n == 0 {
				t.Errorf("goqite has no figure for %s", w.name)
			}
		})
	}
}

// smallWorks are works by name, small enough for the race detector.
func smallWorks(t *testing.T, names ...string) []work {
	t.Helper()
	small := map[string]func(context.Context, contender) ([]reading, error){
		"first-20k":     first(300, 100),
		"strange":       func(ctx context.Context, c contender) ([]reading, error) { return behind(ctx, c, 300, 100) },
		"latency-same":  func(ctx context.Context, c contender) ([]reading, error) { return latencySame(ctx, c, 20) },
		"latency-other": func(ctx context.Context, c contender) ([]reading, error) { return latencyOther(ctx, c, 20) },
	}
	var all []work
	for _, w := range works(200) {
		if !slices.Contains(names, w.name) {
			continue
		}
		if measure, ok := small[w.name]; ok {
			w.measure = measure
		}
		all = append(all, w)
	}
	if len(all) != len(names) {
		t.Fatalf("there are only %d of the works %v", len(all), names)
	}
	return all
}

// checkWork returns the number of figures. That there is none, and the reason is
// given, is fine.
func checkWork(t *testing.T, c contender, w work) int {
	t.Helper()
	if !c.takesPart(w.name) {
		return 0
	}
	readings, err := w.measure(t.Context(), c)
	if why, ok := errors.AsType[absent](err); ok {
		t.Logf("%s: %s", w.name, why)
		return 0
	}
	if err != nil {
		t.Errorf("%s: %v", w.name, err)
		return 0
	}
	for _, r := range readings {
		if r.value < 0 || r.value == 0 && r.metric == "jobs/s" {
			t.Errorf("%s: %s is %v", w.name, r.metric, r.value)
		}
	}
	return len(readings)
}

func TestTheReportComparesMediansWithTheFirstOfABlock(t *testing.T) {
	t.Parallel()
	var out, lines strings.Builder
	r := report{out: &out, json: &lines}
	for repetition, v := range []float64{300, 100, 200} {
		for who, factor := range map[string]float64{"floor": 1, "sequencer": 0.5} {
			m := measurement{work: "drain", store: "sqlite", who: who}
			r.block("drain", "jobs/s", "sqlite").line("floor") // the first, whatever the order of the map
			if err := r.add(m, repetition, []reading{{"jobs/s", v * factor}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.miss(measurement{work: "latency-same", store: "sqlite", who: "sequencer"}, "it has no worker")
	if err := r.print(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"drain: jobs/s, sqlite", "200", "base", "(50.00 – 150)", "0.50", "latency-same, sequencer on sqlite: it has no worker"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
	var last figure
	all := strings.Split(strings.TrimSpace(lines.String()), "\n")
	if err := json.Unmarshal([]byte(all[len(all)-1]), &last); err != nil {
		t.Fatal(err)
	}
	want := figure{Kind: "median", Work: "drain", Metric: "jobs/s", Store: "sqlite", Who: "sequencer", Value: 100, Low: 50, High: 150, Base: "floor", Ratio: 0.5}
	if last != want || len(all) != 6+2 {
		t.Errorf("got %d lines, the last %+v, want 8 and %+v", len(all), last, want)
	}
}

func TestAFailureCostsOnlyItsOwnFigure(t *testing.T) {
	t.Parallel()
	answers := func(err error) func(context.Context) ([]reading, error) {
		return func(context.Context) ([]reading, error) { return []reading{{"jobs/s", 1}}, err }
	}
	var out strings.Builder
	r := report{out: &out}
	err := r.measure(t.Context(), []measurement{
		{"drain", "sqlite", "one", answers(errors.New("disk full"))},
		{"drain", "sqlite", "two", answers(absent("it has no worker"))},
		{"drain", "sqlite", "three", answers(nil)},
	}, 1)
	if err == nil || err.Error() != "1 measurements failed" {
		t.Errorf("got %v, want that 1 measurement failed", err)
	}
	if err := r.print(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"three", "one on sqlite: FAILED: disk full", "two on sqlite: it has no worker"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestWorksAreChosenByNameAndFamily(t *testing.T) {
	t.Parallel()
	everywhere := map[string]string{"sqlite": "", "postgres": "", "redis": "", "mysql": ""}
	for flags, want := range map[string]string{
		"":                     "deploy-full deploy-normal deploy-nothing deploy-plan drain flow-batch flow-chain flow-chains flow-graph flow-waves insert-64 insert-8 insert-bulk latency-other latency-same",
		"insert":               "insert-64 insert-8 insert-bulk",
		"drain,first-20k":      "drain first-20k",
		"rescue,latency-other": "latency-other rescue",
		"drian":                "no work \"drian\"",
	} {
		all, err := measurements(options{works: list(flags)}, everywhere)
		names := map[string]bool{}
		for _, m := range all {
			names[m.work] = true
		}
		got := strings.Join(sortedKeys(names), " ")
		if err != nil {
			got, _, _ = strings.Cut(err.Error(), ":")
		}
		if got != want {
			t.Errorf("-run %q: got %s, want %s", flags, got, want)
		}
	}
}

func TestPayloadsComeBackOutOfWhateverWrapsThem(t *testing.T) {
	t.Parallel()
	for _, number := range []int{0, 42, warmUp} {
		p := payload(number)
		if len(p) != payloadSize {
			t.Errorf("the payload has %d bytes, want %d", len(p), payloadSize)
		}
		got, called, err := readPayload(fmt.Appendf(nil, "\x01{\"Payload\":%q}", p))
		if err != nil || got != number || time.Since(time.Unix(0, called)) > time.Minute {
			t.Errorf("got %d, %d, %v, want %d", got, called, err, number)
		}
	}
}
