package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
)

// report collects figures and prints them.
type report struct {
	out     io.Writer
	json    io.Writer // may be nil
	base    string
	leftOut []string
	blocks  []*block
}

// block is what is compared: the same figure of the same work on the same store.
type block struct {
	work, metric, store string
	lines               []*line
}

type line struct {
	who    string
	values []float64
}

// figure is a line of the JSON output.
type figure struct {
	Kind       string  `json:"kind"` // sample or median
	Work       string  `json:"work"`
	Metric     string  `json:"metric"`
	Store      string  `json:"store"`
	Who        string  `json:"who"`
	Repetition int     `json:"repetition,omitempty"` // from 1
	Value      float64 `json:"value"`
	Low        float64 `json:"low,omitempty"`
	High       float64 `json:"high,omitempty"`
	Base       string  `json:"base,omitempty"`
	Ratio      float64 `json:"ratio,omitempty"`
}

// add takes the readings of one measurement.
func (r *report) add(m measurement, repetition int, readings []reading) error {
	for _, reading := range readings {
		l := r.block(m.work, reading.metric, m.store).line(m.who)
		l.values = append(l.values, reading.value)
		f := figure{Kind: "sample", Work: m.work, Metric: reading.metric, Store: m.store, Who: m.who, Repetition: repetition + 1, Value: reading.value}
		if err := r.encode(f); err != nil {
			return err
		}
	}
	return nil
}

// miss notes once why a measurement has no figure.
func (r *report) miss(m measurement, why string) {
	text := fmt.Sprintf("%s, %s on %s: %s", m.work, m.who, m.store, why)
	if !slices.Contains(r.leftOut, text) {
		r.leftOut = append(r.leftOut, text)
	}
}

func (r *report) encode(f figure) error {
	if r.json == nil {
		return nil
	}
	return json.NewEncoder(r.json).Encode(f)
}

func (r *report) block(work, metric, store string) *block {
	for _, b := range r.blocks {
		if b.work == work && b.metric == metric && b.store == store {
			return b
		}
	}
	b := &block{work: work, metric: metric, store: store}
	r.blocks = append(r.blocks, b)
	return b
}

func (b *block) line(who string) *line {
	for _, l := range b.lines {
		if l.who == who {
			return l
		}
	}
	l := &line{who: who}
	b.lines = append(b.lines, l)
	return l
}

// print writes medians, as a table and as JSON, and what there is no figure of.
func (r *report) print() error {
	table := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, b := range r.blocks {
		base := b.lines[0]
		if i := slices.IndexFunc(b.lines, func(l *line) bool { return l.who == r.base }); i >= 0 {
			base = b.lines[i]
		}
		fmt.Fprintf(table, "\n%s: %s, %s\n", b.work, b.metric, b.store)
		for _, l := range b.lines {
			f := figure{
				Kind: "median", Work: b.work, Metric: b.metric, Store: b.store, Who: l.who, Base: base.who,
				Value: median(l.values), Low: slices.Min(l.values), High: slices.Max(l.values),
			}
			ratio := "-"
			if m := median(base.values); m > 0 {
				f.Ratio = f.Value / m
				ratio = fmt.Sprintf("%.2f", f.Ratio)
			}
			if l == base {
				ratio = "base"
			}
			fmt.Fprintf(table, "%s\t%s\t(%s – %s)\t%s\t\n", l.who, short(f.Value), short(f.Low), short(f.High), ratio)
			if err := r.encode(f); err != nil {
				return err
			}
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(r.leftOut) > 0 {
		fmt.Fprintf(r.out, "\nWithout a figure:\n  %s\n", strings.Join(r.leftOut, "\n  "))
	}
	return nil
}

// head says who takes part, how they are set, and on what.
func head(out io.Writer, all []measurement, servers map[string]string) {
	fmt.Fprintf(out, "%s, %d CPUs\n", runtime.Version(), runtime.NumCPU())
	for _, store := range sortedKeys(servers) {
		fmt.Fprintf(out, "  %s: %s\n", store, servers[store])
	}
	for _, c := range contenders {
		if slices.ContainsFunc(all, func(m measurement) bool { return m.who == c.name && m.store == c.store }) {
			fmt.Fprintf(out, "  %s on %s: %s\n", c.name, c.store, c.settings)
		}
	}
	if slices.ContainsFunc(all, func(m measurement) bool { return within(m.work, "deploy") }) {
		for _, note := range deployNotes {
			fmt.Fprintf(out, "  %s\n", note)
		}
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, dep := range info.Deps {
		if slices.Contains(peerModules, dep.Path) {
			fmt.Fprintf(out, "  %s %s\n", dep.Path, dep.Version)
		}
	}
}

// peerModules are those whose versions matter to the reader.
var peerModules = []string{
	"github.com/hibiken/asynq", "github.com/mikestefanello/backlite", "github.com/riverqueue/river",
	"github.com/vgarvardt/gue/v5", "maragu.dev/goqite", "modernc.org/sqlite",
}

// short writes a figure with three or four digits.
func short(v float64) string {
	switch {
	case v >= 10_000:
		return fmt.Sprintf("%.1fk", v/1000)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.4f", v)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
