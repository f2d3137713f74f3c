package dashboard

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestHoweverManyAskTheLedgerIsReadOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s shared[int]
		reads := 0
		read := func(context.Context) (int, error) {
			reads++
			time.Sleep(10 * time.Millisecond)
			return reads, nil
		}
		ask := func() {
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if _, err := s.get(t.Context(), 100*time.Millisecond, read); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		ask()
		time.Sleep(90 * time.Millisecond)
		ask()
		if reads != 1 {
			t.Errorf("read %d times, want once", reads)
		}
		time.Sleep(100 * time.Millisecond) // older than asked for, and younger than 20 times what reading took
		ask()
		if reads != 1 {
			t.Errorf("a slow answer was read again after 19 times as long, %d times", reads)
		}
		time.Sleep(20 * time.Millisecond)
		ask()
		if reads != 2 {
			t.Errorf("read %d times, want twice", reads)
		}
		s.forget(t.Context())
		ask()
		if reads != 3 {
			t.Errorf("forgotten, and read %d times; want three", reads)
		}
	})
}

func TestAnErrorIsNotKept(t *testing.T) {
	t.Parallel()
	var s shared[int]
	broken := errors.New("broken")
	if _, err := s.get(t.Context(), time.Hour, func(context.Context) (int, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got, err := s.get(t.Context(), time.Hour, func(context.Context) (int, error) { return 7, nil }); got != 7 || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
}
