package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/gosequencer/sequencer"
)

// Defaults of a [Backfill].
const (
	DefaultTarget = 500 * time.Millisecond
	DefaultFirst  = 100
	DefaultMax    = 10_000
)

// keyWait is how long a step waits, in log lines.
const keyWait = "wait"

// Backfill is what to do with which rows. K is the key by which they are in order:
// anything that is the same again after it went through JSON, also a struct of several
// columns. R is what Next returns of a row.
//
// Next and Apply of one batch run in one transaction, if they ask for it with
// [sequencer.Tx]. They, and Count, run outside of any other.
type Backfill[K comparable, R any] struct {
	// Next returns at most limit rows behind after, in the order of their keys. None
	// means that the end is reached. Required.
	Next func(ctx context.Context, after K, limit int) ([]R, error)
	// Key is the key of a row; it may be left out where the rows are keys.
	Key func(row R) K
	// Apply changes the rows of a batch. Required.
	Apply func(ctx context.Context, rows []R) error

	// From is the key behind which to begin; default is the zero value, which is right
	// for keys that begin at 1 and for texts that are not empty.
	From K
	// Count returns how many rows there are behind after, for progress and previews.
	// It is asked once, at the beginning. nil: nobody knows.
	Count func(ctx context.Context, after K) (int64, error)
	// Throttle is asked before each batch: with more than 0 it is asked again that much
	// later. An error ends the attempt. nil: never wait.
	Throttle func(ctx context.Context) (time.Duration, error)

	// Target is how long a batch should take, from Next to the commit; default
	// DefaultTarget. After a full batch the size of the next one follows, at most
	// doubled or halved.
	Target time.Duration
	First  int // rows of the first batch; default DefaultFirst
	Min    int // rows at least; default 1
	Max    int // rows at most; default DefaultMax
}

// Register makes b an operation that may be interrupted at any time: it is marked
// Idempotent and TxNever, and tells a preview how many rows are left. What is wrong
// with b comes back from New. Do not declare tries: a worker that dies would count
// against them.
func Register[K comparable, R any](reg *sequencer.Registry, name string, b Backfill[K, R], opts ...sequencer.RegisterOption) sequencer.Operation {
	own := []sequencer.RegisterOption{
		sequencer.Mark[sequencer.Idempotent](), sequencer.Mark[sequencer.TxNever](), sequencer.Invalid(b.check()),
	}
	if b.Count != nil {
		own = append(own, sequencer.Estimate(b.Estimate))
	}
	return sequencer.RegisterFunc(reg, name, b.Run, append(own, opts...)...)
}

// check says what is wrong with b.
func (b *Backfill[K, R]) check() error {
	var problems []error
	note := func(bad bool, text string) {
		if bad {
			problems = append(problems, errors.New("backfill: "+text))
		}
	}
	note(b.Next == nil, "Next is nil: give it a function that reads rows")
	note(b.Apply == nil, "Apply is nil: give it a function that changes rows")
	key, row := reflect.TypeFor[K](), reflect.TypeFor[R]()
	note(b.Key == nil && key != row, fmt.Sprintf("Key is nil, and the rows, of type %s, are no keys, of type %s: give it a function", row, key))
	note(b.Target < 0 || b.First < 0 || b.Min < 0 || b.Max < 0, "Target, First, Min or Max is negative: use zero for the default")
	limits := b.limits()
	note(limits.least > limits.most, fmt.Sprintf("Min %d is more than Max %d", limits.least, limits.most))
	return errors.Join(problems...)
}

// state is the cursor in the ledger.
type state[K any] struct {
	After K     `json:"after"`
	Rows  int64 `json:"rows"`            // done so far
	Total int64 `json:"total,omitempty"` // 0 = unknown
	Size  int   `json:"size"`            // of the next batch
}

// Run is the handler: it goes on behind the last batch that was committed and returns
// when Next has no more rows. It is there for operations that are types of their own,
// which have to be Idempotent and TxNever, as Register makes them. The operation's
// checkpoint is Run's.
func (b Backfill[K, R]) Run(ctx context.Context) error {
	if err := b.check(); err != nil {
		return sequencer.Fail(err)
	}
	at, err := b.begin(ctx)
	for err == nil {
		if err = b.pause(ctx); err != nil {
			break
		}
		sequencer.Progress(ctx, at.Rows, at.Total)
		var n int
		if n, err = b.batch(ctx, &at); n == 0 {
			break
		}
	}
	if err == nil {
		sequencer.Progress(ctx, at.Rows, at.Rows)
	}
	return err
}

// Estimate is how many rows are left, the ability of that name.
func (b Backfill[K, R]) Estimate(ctx context.Context) (int64, error) {
	if b.Count == nil {
		return 0, errors.New("backfill: there is no Count")
	}
	at := state[K]{After: b.From}
	if _, err := sequencer.Resume(ctx, &at); err != nil {
		return 0, err
	}
	return b.Count(ctx, at.After)
}

func (b *Backfill[K, R]) begin(ctx context.Context) (state[K], error) {
	limits := b.limits()
	at := state[K]{After: b.From, Size: limits.first}
	resumed, err := sequencer.Resume(ctx, &at)
	at.Size = limits.bound(at.Size)
	if err != nil || resumed || b.Count == nil {
		return at, err
	}
	err = sequencer.Transact(ctx, func(ctx context.Context) (err error) {
		at.Total, err = b.Count(ctx, at.After)
		return err
	})
	if err != nil {
		err = fmt.Errorf("counting rows: %w", err)
	}
	return at, err
}

// batch makes one step and returns how many rows it had.
func (b *Backfill[K, R]) batch(ctx context.Context, at *state[K]) (int, error) {
	began, asked, next := time.Now(), at.Size, *at
	var n int
	err := sequencer.Transact(ctx, func(ctx context.Context) error {
		rows, err := b.Next(ctx, at.After, asked)
		if n = len(rows); err != nil || n == 0 {
			return err
		}
		if next.After = b.key(rows[n-1]); next.After == at.After {
			return sequencer.Fail(fmt.Errorf("the last row of %d has the key that the batch began behind: Next must return rows behind it, in order", n))
		}
		next.Rows += int64(n)
		if err := b.Apply(ctx, rows); err != nil {
			return err
		}
		next.Size = b.limits().next(asked, n, time.Since(began))
		return sequencer.Checkpoint(ctx, next)
	})
	if err != nil {
		return 0, fmt.Errorf("batch of %d behind %v: %w", asked, at.After, err)
	}
	*at = next
	// The commit takes time too, which only the next cursor can tell.
	at.Size = b.limits().next(asked, n, time.Since(began))
	return n, nil
}

func (b *Backfill[K, R]) key(row R) K {
	if b.Key != nil {
		return b.Key(row)
	}
	k, _ := any(row).(K)
	return k
}

// pause waits for whoever does not want another batch now.
func (b *Backfill[K, R]) pause(ctx context.Context) error {
	for {
		if err := sequencer.Yield(ctx); err != nil || b.Throttle == nil {
			return err
		}
		wait, err := b.Throttle(ctx)
		if err != nil {
			return fmt.Errorf("throttle: %w", err)
		}
		if wait <= 0 {
			return nil
		}
		sequencer.Log(ctx).DebugContext(ctx, "backfill throttled", keyWait, wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// limits are the bounds of a batch.
type limits struct {
	first, least, most int
	target             time.Duration
}

func (b *Backfill[K, R]) limits() limits {
	l := limits{
		first: cmp.Or(b.First, DefaultFirst), least: cmp.Or(b.Min, 1), most: cmp.Or(b.Max, DefaultMax),
		target: cmp.Or(b.Target, DefaultTarget),
	}
	if b.Max == 0 {
		l.most = max(l.most, l.least, b.First)
	}
	return l
}

func (l limits) bound(size int) int { return min(max(size, l.least), l.most) }

// next is the size after a batch of n rows, of which asked were asked for. One that
// was not full says nothing about a larger one.
func (l limits) next(asked, n int, took time.Duration) int {
	size := int(min(float64(n)*float64(l.target)/float64(max(took, time.Microsecond)), float64(l.most)))
	most := 2 * asked
	if n < asked {
		most = asked
	}
	return l.bound(min(max(size, asked/2), most))
}
