package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

type options struct {
	works, stores, whos []string // empty: all
	base                string
	repeat, jobs        int
	slow                bool
	json                string
	out                 io.Writer
}

// measurement is one work done by one contender.
type measurement struct {
	work, store, who string
	run              func(ctx context.Context) ([]reading, error)
}

// reading is one figure of a measurement.
type reading struct {
	metric string
	value  float64
}

// absent is why a contender has no figure for a work. It is reported, not fatal.
type absent string

func (a absent) Error() string { return string(a) }

func run(ctx context.Context, o options) error {
	if o.repeat < 1 || o.jobs < 1 {
		return errors.New("-repeat and -jobs must be at least 1")
	}
	reachable, left := servers(ctx, o)
	all, err := measurements(o, reachable)
	if err != nil {
		return err
	}
	head(o.out, all, reachable)
	r := report{out: o.out, base: o.base, leftOut: left}
	if o.json != "" {
		f, err := os.OpenFile(o.json, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		r.json = f
	}
	failed := r.measure(ctx, all, o.repeat)
	return errors.Join(failed, r.print())
}

// measure goes through all measurements as often as asked, in alternation, so that a
// machine that slows down slows everybody. One that fails does not cost the others
// their figures.
func (r *report) measure(ctx context.Context, all []measurement, repeat int) error {
	failures := 0
	for repetition := range repeat {
		for _, m := range all {
			fmt.Fprintf(os.Stderr, "%d/%d %s %s %s\n", repetition+1, repeat, m.work, m.store, m.who)
			readings, err := m.run(ctx)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if why, ok := errors.AsType[absent](err); ok {
				r.miss(m, string(why))
				continue
			}
			if err != nil {
				failures++
				r.miss(m, "FAILED: "+err.Error())
				continue
			}
			if err := r.add(m, repetition, readings); err != nil {
				return err
			}
		}
	}
	if failures > 0 {
		return fmt.Errorf("%d measurements failed", failures)
	}
	return nil
}

// servers finds out which stores can be reached, and says of the others why not.
func servers(ctx context.Context, o options) (versions map[string]string, left []string) {
	versions = map[string]string{}
	for _, k := range places {
		if !chosen(o.stores, k.store) {
			continue
		}
		version, err := k.version(ctx)
		if err != nil {
			left = append(left, fmt.Sprintf("%s: %v", k.store, err))
			continue
		}
		versions[k.store] = version
	}
	return versions, left
}

// measurements is everything that was asked for and can be had.
func measurements(o options, reachable map[string]string) ([]measurement, error) {
	var all []measurement
	known := map[string]bool{}
	take := func(m measurement, slow bool) {
		known[m.work] = true
		named := slices.ContainsFunc(o.works, func(name string) bool { return within(m.work, name) })
		if _, ok := reachable[m.store]; ok && (named || len(o.works) == 0 && (!slow || o.slow)) && chosen(o.whos, m.who) {
			all = append(all, m)
		}
	}
	for _, w := range works(o.jobs) {
		for _, store := range places { // a store at a time, so that what is compared is measured close together
			for _, c := range contenders {
				if c.store == store.store && c.takesPart(w.name) {
					take(measurement{w.name, c.store, c.name, func(ctx context.Context) ([]reading, error) { return w.measure(ctx, c) }}, w.slow)
				}
			}
		}
	}
	for _, m := range deploy() {
		take(m, false)
	}
	for _, m := range pages(o.jobs) {
		take(m, true)
	}
	for _, name := range o.works {
		if !slices.ContainsFunc(sortedKeys(known), func(work string) bool { return within(work, name) }) {
			return nil, fmt.Errorf("no work %q: there are %s", name, strings.Join(sortedKeys(known), ", "))
		}
	}
	if len(all) == 0 {
		return nil, errors.New("nothing is left to measure with these flags and servers")
	}
	return all, nil
}

// within tells whether a work has that name, or belongs to that family.
func within(work, name string) bool { return work == name || strings.HasPrefix(work, name+"-") }

// chosen takes "floor" for all floors.
func chosen(wanted []string, name string) bool {
	family, _, _ := strings.Cut(name, ",")
	return len(wanted) == 0 || slices.Contains(wanted, family)
}
