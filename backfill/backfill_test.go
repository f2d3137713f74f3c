package backfill_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/backfill"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

const name = "20240101000000_raise"

// table is n rows in memory, by their number from 1.
type table struct {
	n       int64
	applied []int64
	sizes   []int // asked for
}

func (t *table) next(_ context.Context, after int64, limit int) (ids []int64, err error) {
	t.sizes = append(t.sizes, limit)
	for id := after + 1; id <= t.n && len(ids) < limit; id++ {
		ids = append(ids, id)
	}
	return ids, nil
}

func (t *table) apply(_ context.Context, ids []int64) error {
	t.applied = append(t.applied, ids...)
	return nil
}

func (t *table) count(_ context.Context, after int64) (int64, error) { return t.n - after, nil }

func (t *table) backfill() backfill.Backfill[int64, int64] {
	return backfill.Backfill[int64, int64]{Next: t.next, Apply: t.apply, Count: t.count}
}

// once reports that each row was changed once, in order.
func (t *table) once(tb testing.TB) {
	tb.Helper()
	if int64(len(t.applied)) != t.n || !slices.IsSorted(t.applied) || len(slices.Compact(slices.Clone(t.applied))) != len(t.applied) {
		tb.Errorf("%d rows were changed, in order %v; want each of %d once, in order", len(t.applied), slices.IsSorted(t.applied), t.n)
	}
}

func open(t *testing.T, store storage.Store, reg *sequencer.Registry) *sequencer.Sequencer {
	t.Helper()
	seq, err := sequencer.New(store, reg, sequencer.Config{Environment: "test", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func TestBatchesTakeAboutAsLongAsTheyShould(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rows := &table{n: 20_000}
		b := rows.backfill()
		b.Apply = func(ctx context.Context, ids []int64) error {
			each := time.Millisecond // 500 of them take half a second
			if ids[0] > 10_000 {
				each *= 5
			}
			time.Sleep(time.Duration(len(ids)) * each) // sleep: in a bubble
			return rows.apply(ctx, ids)
		}
		if err := b.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		rows.once(t)
		if want := []int{100, 200, 400, 500, 500}; !slices.Equal(rows.sizes[:5], want) {
			t.Errorf("batches of %v, want %v and so on", rows.sizes[:5], want)
		}
		n := len(rows.sizes)
		if got := rows.sizes[n-5]; got != 100 {
			t.Errorf("when rows take five times as long, batches of %d, want 100", got)
		}
	})
}

func TestBoundsOfABatchHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ first, least, most, each, want int }{
			{first: 5, most: 7, each: 0, want: 7},
			{first: 50, least: 20, each: 1000, want: 20},
			{first: 20_000, each: 0, want: 20_000},
		} {
			rows := &table{n: 100_000}
			b := rows.backfill()
			b.First, b.Min, b.Max = c.first, c.least, c.most
			b.Apply = func(context.Context, []int64) error {
				time.Sleep(time.Duration(c.each) * time.Second) // sleep: in a bubble
				return nil
			}
			if err := b.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := rows.sizes[len(rows.sizes)/2]; got != c.want {
				t.Errorf("%+v: batches of %d", c, got)
			}
		}
	})
}

func TestThrottleHoldsUpBatchesUntilItSaysOtherwiseOrTheContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rows := &table{n: 300}
		b := rows.backfill()
		lag := 3
		b.Throttle = func(context.Context) (time.Duration, error) {
			if len(rows.applied) > 0 && lag > 0 {
				lag--
				return time.Minute, nil
			}
			return 0, nil
		}
		began := time.Now()
		if err := b.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		rows.once(t)
		if took := time.Since(began); took != 3*time.Minute {
			t.Errorf("it took %s, want the three minutes it was throttled for", took)
		}

		b.Throttle = func(context.Context) (time.Duration, error) { return time.Hour, nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("throttled when its context ends: %v", err)
		}
		broken := errors.New("no replica answers")
		b.Throttle = func(context.Context) (time.Duration, error) { return 0, broken }
		if err := b.Run(t.Context()); !errors.Is(err, broken) {
			t.Errorf("a throttle that cannot tell: %v", err)
		}
	})
}

func TestS17WhatIsWrongIsRefusedWhereItIsRegistered(t *testing.T) {
	t.Parallel()
	reg := sequencer.NewRegistry()
	_, _, line, _ := runtime.Caller(0)
	backfill.Register(reg, name, backfill.Backfill[int64, string]{Min: 9, Max: 3, Target: -1})
	err := reg.Err()
	if err == nil {
		t.Fatal("nothing is refused")
	}
	for _, want := range []string{
		fmt.Sprintf("register %s at backfill_test.go:%d:", name, line+1),
		"Next is nil", "Apply is nil", "Key is nil, and the rows, of type string, are no keys, of type int64", "Min 9 is more than Max 3", "is negative",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
}

func TestNextThatDoesNotGetFurtherIsRefused(t *testing.T) {
	t.Parallel()
	b := backfill.Backfill[int64, int64]{
		Next:  func(context.Context, int64, int) ([]int64, error) { return []int64{7}, nil },
		Apply: func(context.Context, []int64) error { return nil },
	}
	if err := b.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "must return rows behind it") {
		t.Errorf("got %v", err)
	}
}

// A key of two columns, as a listing by time has.
type place struct {
	At time.Time
	ID int64
}

func TestKeysMayBeOfSeveralColumnsAndRowsMayBeMore(t *testing.T) {
	t.Parallel()
	type post struct {
		place
		Title string
	}
	var posts []post
	for i := range int64(1000) {
		posts = append(posts, post{place{time.Unix(i/10, 0).UTC(), i % 10}, fmt.Sprint(i)})
	}
	reg := sequencer.NewRegistry()
	fail, got := true, []string{}
	backfill.Register(reg, name, backfill.Backfill[place, post]{
		Next: func(_ context.Context, after place, limit int) ([]post, error) {
			i, found := slices.BinarySearchFunc(posts, after, func(p post, at place) int {
				if c := p.At.Compare(at.At); c != 0 {
					return c
				}
				return int(p.ID - at.ID)
			})
			if found {
				i++
			}
			return posts[i:min(i+limit, len(posts))], nil
		},
		Key: func(p post) place { return p.place },
		Apply: func(_ context.Context, batch []post) error {
			if fail && len(got) >= 300 {
				return errors.New("boom")
			}
			for _, p := range batch {
				got = append(got, p.Title)
			}
			return nil
		},
		Max: 100,
	})
	seq := open(t, memory.New(), reg)
	if _, err := seq.Process(t.Context(), sequencer.RunOptions{}); err == nil || !strings.Contains(err.Error(), "batch of 100 behind") {
		t.Fatalf("want the error of the batch, got %v", err)
	}
	fail = false
	if _, err := seq.Process(t.Context(), sequencer.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, title := range got {
		if title != fmt.Sprint(i) {
			t.Fatalf("row %d is %s", i, title)
		}
	}
	if len(got) != len(posts) {
		t.Errorf("%d rows, want %d", len(got), len(posts))
	}
}

func TestS197APreviewCountsTheRowsThatAreLeft(t *testing.T) {
	t.Parallel()
	rows := &table{n: 1000}
	b := rows.backfill()
	b.Max = 100
	b.Apply = func(ctx context.Context, ids []int64) error {
		if len(rows.applied) == 400 {
			return errors.New("boom")
		}
		return rows.apply(ctx, ids)
	}
	reg := sequencer.NewRegistry()
	backfill.Register(reg, name, b)
	seq := open(t, memory.New(), reg)
	for _, want := range []int64{1000, 600} {
		plan, err := seq.Preview(t.Context(), sequencer.RunOptions{Evaluate: true})
		if err != nil {
			t.Fatal(err)
		}
		if e := plan.Tasks[0].Evaluation; e == nil || e.Rows == nil || *e.Rows != want {
			t.Errorf("the preview says %+v, want %d rows", e, want)
		}
		_, _ = seq.Process(t.Context(), sequencer.RunOptions{})
	}
}

func TestProgressIsOfAllRowsAlsoWhenItGoesOn(t *testing.T) {
	t.Parallel()
	rows := &table{n: 1000}
	b := rows.backfill()
	b.Max = 100
	boom := true
	b.Apply = func(ctx context.Context, ids []int64) error {
		if boom && len(rows.applied) == 400 {
			return errors.New("boom")
		}
		return rows.apply(ctx, ids)
	}
	reg := sequencer.NewRegistry()
	backfill.Register(reg, name, b)
	seq := open(t, memory.New(), reg)
	var heard []string
	ctx := sequencer.WithObserver(t.Context(), func(_ context.Context, e sequencer.Event) {
		if e.Kind == sequencer.EventProgress {
			heard = append(heard, fmt.Sprintf("%d/%d", e.Done, e.Total))
		}
	})
	for range 2 {
		_, _ = seq.Process(ctx, sequencer.RunOptions{})
		boom = false
	}
	rows.once(t)
	want := "0/1000 100/1000 200/1000 300/1000 400/1000 400/1000 500/1000 600/1000 700/1000 800/1000 900/1000 1000/1000 1000/1000"
	if got := strings.Join(heard, " "); got != want {
		t.Errorf("progress:\n got %s\nwant %s", got, want)
	}
}

// Example: a column that every row gets, in a transaction per batch with the cursor.
func Example() {
	ctx := context.Background()
	store := must(sqlite.Open(ctx, ":memory:", sqlite.Options{}))
	defer store.Close()
	db := must(store.DB())
	must(db.ExecContext(ctx, "CREATE TABLE posts (id integer PRIMARY KEY, title text, slug text)"))
	must(db.ExecContext(ctx, "INSERT INTO posts (title) VALUES ('Hello World'), ('Go On'), ('The End')"))

	type post struct {
		ID    int64
		Title string
	}
	reg := sequencer.NewRegistry()
	backfill.Register(reg, "20240115120000_fill_slugs", backfill.Backfill[int64, post]{
		Next: func(ctx context.Context, after int64, limit int) (posts []post, err error) {
			tx, err := sequencer.Tx[*sql.Tx](ctx)
			if err != nil {
				return nil, err
			}
			rows, err := tx.QueryContext(ctx, "SELECT id, title FROM posts WHERE id > ? ORDER BY id LIMIT ?", after, limit)
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			for rows.Next() {
				var p post
				if err := rows.Scan(&p.ID, &p.Title); err != nil {
					return nil, err
				}
				posts = append(posts, p)
			}
			return posts, rows.Err()
		},
		Key: func(p post) int64 { return p.ID },
		Apply: func(ctx context.Context, posts []post) error {
			tx, err := sequencer.Tx[*sql.Tx](ctx)
			if err != nil {
				return err
			}
			for _, p := range posts {
				slug := strings.ReplaceAll(strings.ToLower(p.Title), " ", "-")
				if _, err := tx.ExecContext(ctx, "UPDATE posts SET slug = ? WHERE id = ?", slug, p.ID); err != nil {
					return err
				}
			}
			return nil
		},
		Count: func(ctx context.Context, after int64) (n int64, err error) {
			err = db.QueryRowContext(ctx, "SELECT count(*) FROM posts WHERE id > ?", after).Scan(&n)
			return n, err
		},
	})
	seq := must(sequencer.New(store, reg, sequencer.Config{}))

	plan := must(seq.Preview(ctx, sequencer.RunOptions{Evaluate: true}))
	fmt.Println("rows to fill:", *plan.Tasks[0].Evaluation.Rows)
	report := must(seq.Process(ctx, sequencer.RunOptions{}))
	var slugs string
	if err := db.QueryRowContext(ctx, "SELECT group_concat(slug, ' ') FROM posts").Scan(&slugs); err != nil {
		panic(err)
	}
	fmt.Println(report.State, slugs)
	// Output:
	// rows to fill: 3
	// completed hello-world go-on the-end
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
