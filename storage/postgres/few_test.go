package postgres

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
)

// A backlog of a million leaves a table of half a gigabyte, which every list read in full.
func TestAFewRowsInALargeTableAreFoundThroughItsKey(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), testdb.Postgres(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	tagged := execution("tagged")
	tagged.Tags = []string{"vip"}
	want := []storage.Execution{tagged, execution("plain"), execution("plain")}
	for range 30 {
		backlog := make([]storage.Execution, 1000)
		for i := range backlog {
			backlog[i] = execution("backlog")
			backlog[i].Input = make([]byte, 500)
		}
		if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: backlog}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: want}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`DELETE FROM sequencer_live WHERE name = 'backlog'`,
		`VACUUM (ANALYZE) sequencer_live`,
	} {
		if _, err := s.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	read := regexp.MustCompile(`Seq Scan on sequencer_live .*actual time`)
	for name, f := range map[string]storage.Filter{
		"all":      {},
		"waiting":  {States: []storage.State{storage.Pending}},
		"by name":  {Name: "tagged"},
		"by tag":   {Tag: "vip"},
		"by queue": {Queue: "default"},
	} {
		rows := 3
		if f.Name != "" || f.Tag != "" {
			rows = 1
		}
		got, err := s.Executions(t.Context(), f)
		if err != nil || len(got) != rows {
			t.Errorf("%s: %d executions, %v; want %d", name, len(got), err, rows)
		}
		query, args, err := listing(&f)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := s.pool.Query(t.Context(), "EXPLAIN ANALYZE "+query, args...)
		plan, err := pgx.CollectRows(answer, pgx.RowTo[string])
		if text := strings.Join(plan, "\n"); err != nil || read.MatchString(text) {
			t.Errorf("%s reads the table in full, %v:\n%s", name, err, text)
		}
	}
	if q, err := s.Queues(t.Context(), time.Time{}); err != nil || len(q) != 1 || q[0].Ready != 3 {
		t.Errorf("queues are %+v, %v; want one with 3 ready", q, err)
	}
}
