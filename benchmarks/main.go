// Command benchmarks measures Sequencer beside what it is compared with, on the
// same store, in one run, in alternation, and prints medians and ratios. An
// absolute figure from a shared machine means nothing; the ratios do.
//
//	go run .                    everything
//	go run . -run deploy        one of: deploy, drain
//	go run . -repeat 5          repetitions of each measurement
//	go run . -json out.jsonl    raw measurements, a JSON document a line
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// measurement is one way of doing one piece of work.
type measurement struct {
	work string // what is done
	who  string // by whom
	base bool   // the others are compared with this one
	run  func(ctx context.Context, dir string) (time.Duration, error)
}

func main() {
	only := flag.String("run", "", "comma-separated suites: deploy, drain")
	repeat := flag.Int("repeat", 3, "repetitions of each measurement")
	out := flag.String("json", "", "append raw measurements to this file, a JSON document a line")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, *repeat, *out); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, repeat int, out string) error {
	suites := map[string]func() []measurement{"deploy": deploy, "drain": drain}
	names := []string{"deploy", "drain"}
	if only != "" {
		names = strings.Split(only, ",")
	}
	var all []measurement
	for _, name := range names {
		suite, ok := suites[name]
		if !ok {
			return fmt.Errorf("no suite %q: want deploy or drain", name)
		}
		all = append(all, suite()...)
	}
	times := make([][]time.Duration, len(all))
	for range repeat { // in alternation, so that a machine that slows down slows everybody
		for i, m := range all {
			dir, err := os.MkdirTemp("", "sequencer-bench")
			if err != nil {
				return err
			}
			took, err := m.run(ctx, dir)
			_ = os.RemoveAll(dir)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", m.work, m.who, err)
			}
			times[i] = append(times[i], took)
			if err := record(out, m, took); err != nil {
				return err
			}
		}
	}
	table(all, times)
	return nil
}

func record(path string, m measurement, took time.Duration) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	return json.NewEncoder(f).Encode(map[string]any{"work": m.work, "who": m.who, "seconds": took.Seconds()})
}

// table prints medians, and each as a multiple of its work's base.
func table(all []measurement, times [][]time.Duration) {
	base := map[string]time.Duration{}
	for i, m := range all {
		if m.base {
			base[m.work] = median(times[i])
		}
	}
	fmt.Printf("%-44s %-34s %12s %8s\n", "work", "who", "median", "ratio")
	for i, m := range all {
		ratio := "-"
		if b := base[m.work]; b > 0 {
			ratio = fmt.Sprintf("%.2f", float64(median(times[i]))/float64(b))
		}
		fmt.Printf("%-44s %-34s %12s %8s\n", m.work, m.who, median(times[i]).Round(10*time.Microsecond), ratio)
	}
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
