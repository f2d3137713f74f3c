//go:build linux

package crashtest_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/backfill"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/storage"
)

const (
	orderedBackfill  = "20240102000000_raise"
	unlistedBackfill = "raise"
	backfillRows     = 20_000
	backfillBatch    = 50
)

// raise is a process that raises each number by one, in a run or as a worker.
type raise struct {
	Place  place
	Worker bool
	Enough int // it notes enoughDone when so many batches are committed
}

func (r raise) sequencer(l *ledger, note func(string)) (*sequencer.Sequencer, sequencer.Operation, error) {
	reg := sequencer.NewRegistry()
	name := orderedBackfill
	if r.Worker {
		name = unlistedBackfill
	}
	batches := 0
	op := backfill.Register(reg, name, backfill.Backfill[int64, int64]{
		Next: func(ctx context.Context, after int64, limit int) ([]int64, error) {
			switch batches++; {
			case batches == r.Enough+1:
				note(enoughDone)
			case batches > r.Enough:
				time.Sleep(20 * time.Millisecond) // sleep: whoever kills it may be slow to, and is to find it at work
			}
			tx, err := sequencer.Tx[*sql.Tx](ctx)
			if err != nil {
				return nil, err
			}
			rows, err := tx.QueryContext(ctx, fmt.Sprintf("SELECT id FROM numbers WHERE id > %d ORDER BY id LIMIT %d", after, limit))
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			var ids []int64
			for rows.Next() {
				var id int64
				if err := rows.Scan(&id); err != nil {
					return nil, err
				}
				ids = append(ids, id)
			}
			return ids, rows.Err()
		},
		Apply: func(ctx context.Context, ids []int64) error {
			tx, err := sequencer.Tx[*sql.Tx](ctx)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, fmt.Sprintf("UPDATE numbers SET times = times + 1 WHERE id BETWEEN %d AND %d", ids[0], ids[len(ids)-1]))
			return err
		},
		Count: func(ctx context.Context, after int64) (n int64, err error) {
			err = l.db.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) FROM numbers WHERE id > %d", after)).Scan(&n)
			return n, err
		},
		First: backfillBatch, Max: backfillBatch,
	})
	seq, err := sequencer.New(l.Store, reg, sequencer.Config{
		Environment: "test", Actor: "crash test", ShutdownGrace: time.Second, TimeoutGrace: time.Second,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	return seq, op, err
}

// runRaise is the child.
func runRaise(ctx context.Context, in *crashtest.Inside) any {
	var r raise
	if err := in.Input(&r); err != nil {
		return shiftEnd{err.Error()}
	}
	l, err := open(ctx, r.Place)
	if err != nil {
		return shiftEnd{err.Error()}
	}
	defer l.Close()
	seq, _, err := r.sequencer(l, in.Note)
	if err != nil {
		return shiftEnd{err.Error()}
	}
	if r.Worker {
		err = seq.Work(ctx, sequencer.WorkerConfig{StopWhenEmptyFor: 2 * time.Second})
	} else {
		_, err = seq.Process(ctx, sequencer.RunOptions{Isolate: true})
	}
	if err != nil {
		return shiftEnd{err.Error()}
	}
	return shiftEnd{}
}

func TestCrashOfABackfillAgainAndAgainChangesEveryRowOnce_S7_5_Q2_17(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	n := backfillRows
	onBackends(t, func(b backend) bool { return b.tables }, func(t *testing.T, b backend) {
		for how, worker := range map[string]bool{"run": false, "worker": true} {
			t.Run(how, func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(seed, 1))
				r := raise{Place: b.at(t), Worker: worker}
				r.prepare(t, n)
				kills := r.killUntilDone(t, random, n)
				r.verify(t, n, kills)
			})
		}
	})
}

// prepare makes the numbers, and dispatches where a worker is to do the work.
func (r raise) prepare(t *testing.T, n int) {
	t.Helper()
	within(t, r.Place, func(l *ledger) {
		if _, err := l.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		exec := func(query string) {
			t.Helper()
			if _, err := l.db.ExecContext(t.Context(), query); err != nil {
				t.Fatal(err)
			}
		}
		exec("CREATE TABLE numbers (id bigint PRIMARY KEY, times bigint NOT NULL)")
		for from := 0; from < n; from += 1000 {
			var rows []string
			for id := from + 1; id <= min(from+1000, n); id++ {
				rows = append(rows, fmt.Sprintf("(%d, 0)", id))
			}
			exec("INSERT INTO numbers (id, times) VALUES " + strings.Join(rows, ", "))
		}
		seq, op, err := r.sequencer(l, func(string) {})
		if err == nil && r.Worker {
			_, err = seq.Dispatch(t.Context(), op)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

// killUntilDone lets one process after the other go on, each until it has committed
// some batches and a moment longer, until one comes to the end. It returns how many
// were killed.
func (r raise) killUntilDone(t *testing.T, random *rand.Rand, n int) int {
	t.Helper()
	for kills := 0; ; kills++ {
		if kills > n/backfillBatch {
			t.Fatal("each process commits a batch at least: they should have come to the end")
		}
		r.Enough = 1 + random.IntN(5) // they grow as long as they are quick
		c := crashtest.Start(t, crashtest.Order{Program: "raise"}, r)
		if c.Noted(enoughDone) {
			select {
			case <-time.After(time.Duration(random.Int64N(int64(10 * time.Millisecond)))):
			case <-c.Over():
			}
			c.Signal(syscall.SIGKILL)
		}
		end := c.Wait()
		if end.Killed {
			continue
		}
		var e shiftEnd
		if end.Answer(t, &e); e.Error != "" {
			t.Fatalf("after %d kills: %s\n%s", kills, e.Error, end.Log)
		}
		return kills
	}
}

func (r raise) verify(t *testing.T, n, kills int) {
	t.Helper()
	if kills <= sequencer.MaxLost {
		t.Errorf("%d processes were killed: that shows nothing", kills)
	}
	within(t, r.Place, func(l *ledger) {
		if got := list(t, l.db, "SELECT concat(times, ' times ', count(*)) FROM numbers GROUP BY times"); len(got) != 1 || got[0] != fmt.Sprintf("1 times %d", n) {
			t.Errorf("numbers were raised: %v; want each once", got)
		}
		rows, err := l.Executions(t.Context(), storage.Filter{States: []storage.State{storage.Completed}})
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 1 || rows[0].Done != int64(n) || rows[0].Total != int64(n) {
			t.Fatalf("completed: %+v; want one execution with %d of %[2]d done", rows, n)
		}
		attempts, err := l.Attempts(t.Context(), rows[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if r.Worker && len(attempts) <= sequencer.MaxLost {
			t.Errorf("%d attempts were lost: that does not show that they are forgiven", len(attempts))
		}
		t.Logf("%d processes killed, %d attempts of the last execution lost", kills, len(attempts))
	})
}
