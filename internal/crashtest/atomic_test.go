//go:build linux

package crashtest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/storage"
)

// orchestrators are those of the programs that are no line.
var orchestrators = map[string]sequencer.Orchestrator{
	"failing batch": sequencer.TransactionalBatch(),
	"fixed batch":   sequencer.TransactionalBatch(),
	"graph":         sequencer.DependencyGraph(),
}

func init() { //nolint:gochecknoinits // the same programs, arranged otherwise
	registries["failing batch"], registries["fixed batch"] = registries["failing"], registries["fixed"]
	graph := registries["once"]
	graph.register = registerGraph
	registries["graph"] = graph
}

// registerGraph has two waves of four operations that can be done once.
func registerGraph(p *program) {
	for wave := range 2 {
		for n := range 4 {
			var opts []sequencer.RegisterOption
			if wave > 0 {
				opts = append(opts, sequencer.DependsOn(sequencer.Op(inWave(0, n))))
			}
			name := inWave(wave, n)
			sequencer.RegisterFunc(p.Registry, name, p.inTx(name, fmt.Sprintf("INSERT INTO settings (name, value) VALUES ('%s', %d)", name, wave)), opts...)
		}
	}
}

func inWave(wave, n int) string { return fmt.Sprintf("2024010%d00000%d_wave", wave+2, n) }

// What runs side by side passes its points in another order each time, and those of
// the store, by what travels together, sometimes not at all. So most children have to
// die where they were told to, not each.
type deaths struct{ told, died int }

func (d *deaths) kill(t *testing.T, run deploy, point string) {
	t.Helper()
	d.told++
	if crashtest.Run(t, crashtest.Order{Program: "deploy", KillAt: point}, run).Killed {
		d.died++
	}
}

func (d *deaths) enough(t *testing.T) {
	t.Helper()
	if d.died*2 < d.told {
		t.Errorf("%d of %d children died where they were told to", d.died, d.told)
	}
}

func TestCrashOfATransactionalBatchAtEachPointEndsWhollyUndoneOrWhollyDone_S22_1(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, fresh func(*testing.T) place) {
		undisturbed := fresh(t)
		end, points := run(t, deploy{Place: undisturbed, Program: "failing batch"})
		if end.State != storage.Failed || !strings.Contains(end.Error, broken) || !strings.Contains(end.Error, "no rollback: ") || !strings.Contains(end.Error, note) {
			t.Fatalf("the broken deploy ended %s: %s", end.State, end.Error)
		}
		failed := contents(t, undisturbed)
		wantDone(t, undisturbed, 0)
		mustRun(t, deploy{Place: undisturbed, Program: "fixed batch"})
		fixed := contents(t, undisturbed)
		wantDone(t, undisturbed, 1)

		var d deaths
		for _, point := range decisive(points) {
			t.Run(point, func(t *testing.T) { // one after the other: they are counted
				p := fresh(t)
				d.kill(t, deploy{Place: p, Program: "failing batch"}, point)
				wantWhole(t, p, deploy{Place: p, Program: "failing batch"}, failed, 0)
				wantWhole(t, p, deploy{Place: p, Program: "fixed batch"}, fixed, 1)
			})
		}
		d.enough(t)
	})
}

func TestCrashOfATransactionalBatchAtRandomTimesAlsoWhileUndoing_S22_1(t *testing.T) {
	t.Parallel()
	atRandom(t, func(r round) {
		for _, program := range []string{"failing batch", "failing batch", "fixed batch"} { // the second may undo the first
			killWithin(r.T, deploy{Place: r.place, Program: program}, time.Duration(r.random.Int64N(int64(r.span))))
		}
		if r.n%2 == 0 && !isDone(r.T, r.place, broken) { // the third may have been over
			wantWhole(r.T, r.place, deploy{Place: r.place, Program: "failing batch"}, r.want[0], 0)
		}
		wantWhole(r.T, r.place, deploy{Place: r.place, Program: "fixed batch"}, r.want[1], 1)
	}, "failing batch", "fixed batch")
}

// isDone reports that an operation is completed in a ledger, which there may not be yet.
func isDone(t *testing.T, p place, name string) (done bool) {
	t.Helper()
	look(t, p, func(l *ledger) {
		newest, _ := l.Newest(t.Context(), storage.NewestRequest{Environment: "test"})
		done = slices.ContainsFunc(newest, func(e storage.Effective) bool { return e.Name == name && e.State == storage.Completed })
	})
	return done
}

// wantWhole runs a program to its end and compares what there is then: everything done
// so many times more than undone, and nothing between.
func wantWhole(t *testing.T, p place, d deploy, want []string, done int) {
	t.Helper()
	if again, _ := run(t, d); (again.Error == "") != (done == 1) || done == 0 && !strings.Contains(again.Error, broken) {
		t.Errorf("%s ended with %q", d.Program, again.Error)
	}
	settled(t, p)
	wantDone(t, p, done)
	same(t, "states and settings of "+d.Program, standing(contents(t, p)), standing(want))
}

func TestCrashOfADependencyGraphAtRandomTimesDoesEachOnce_S24_3(t *testing.T) {
	t.Parallel()
	atRandom(t, func(r round) {
		d := deploy{Place: r.place, Program: "graph"}
		r.killTwice(d, r.span)
		mustRun(r.T, d)
		same(r.T, "the contents", contents(r.T, d.Place), r.want[0])
		settled(r.T, d.Place)
	}, "graph")
}
