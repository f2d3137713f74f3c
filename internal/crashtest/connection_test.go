//go:build linux

package crashtest_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
)

func TestCrashOfTheConnectionsIsAnErrorAndTheNextRunCompletes_S7_9(t *testing.T) {
	t.Parallel()
	undisturbed := onPostgres(t)
	mustRun(t, deploy{Place: undisturbed, Program: "everything"})
	want := contents(t, undisturbed)
	for _, inside := range []string{
		"Enqueue#1/before", "Enqueue#1/after",
		flaky + "/before", flaky + "/after", "FinishTx#2/after", "Commit#2/before", "Commit#2/after",
		"migration 20240103000000/before", "migration 20240103000000/after", "migration 20240107000000/before",
		upsert + "/before", upsert + "/after", "Unlock#1/before", "Leave#1/before",
	} {
		t.Run(inside, func(t *testing.T) {
			t.Parallel()
			p := onPostgres(t)
			named := p
			named.Address = withName(t, p.Address, "crash-test")
			c := crashtest.Start(t, crashtest.Order{Program: "deploy", PauseAt: []string{inside}}, deploy{Place: named, Program: "everything"})
			c.AwaitPause(inside)
			terminate(t, p, "crash-test")
			c.Resume()
			var o outcome
			end := c.Wait()
			end.Answer(t, &o)
			// pgx may have noticed in time, and then nothing went wrong at all.
			if o.Error != "" && !strings.Contains(o.Error, "terminating connection") {
				t.Errorf("after %s the run ended %q with %q, want the server's own words", end.Took, o.State, o.Error)
			}

			again, _ := run(t, deploy{Place: p, Program: "everything"})
			if slices.Equal(again.Interrupted, []string{index}) {
				resolve(t, deploy{Place: p, Program: "everything"}, index, sequencer.ResolveFailed)
				again, _ = run(t, deploy{Place: p, Program: "everything"})
			}
			if again.Error != "" {
				t.Errorf("the next run ended with %s", again.Error)
			}
			same(t, "the contents", contents(t, p), want)
			settled(t, p)
		})
	}
}

func withName(t *testing.T, address, name string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("application_name", name+"-"+q.Get("search_path")) // the schema makes it this test's own
	u.RawQuery = q.Encode()
	return u.String()
}

// terminate ends all connections of a child that named itself.
func terminate(t *testing.T, p place, name string) {
	t.Helper()
	look(t, p, func(l *ledger) {
		gone := list(t, l.db, "SELECT pg_terminate_backend(pid, 5000)::text FROM pg_stat_activity WHERE application_name = '"+name+"-' || current_schema()")
		if len(gone) == 0 || slices.Contains(gone, "false") {
			t.Fatalf("terminated connections: %q", gone)
		}
	})
}
