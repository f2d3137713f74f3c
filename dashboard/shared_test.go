package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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
			time.Sleep(10 * time.Millisecond) // sleep: in a bubble; what reading takes
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
		time.Sleep(90 * time.Millisecond) // sleep: in a bubble; younger than asked for
		ask()
		if reads != 1 {
			t.Errorf("read %d times, want once", reads)
		}
		time.Sleep(100 * time.Millisecond) // sleep: in a bubble; older than asked for, and younger than 20 times what reading took
		ask()
		if reads != 1 {
			t.Errorf("a slow answer was read again after 19 times as long, %d times", reads)
		}
		time.Sleep(20 * time.Millisecond) // sleep: in a bubble; older than both
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

func TestAListIsReadOnceForAllWhoAskForItUntilSomethingIsDone(t *testing.T) {
	t.Parallel()
	var r readings[int]
	reads := 0
	ask := func(ctx context.Context, url string) {
		t.Helper()
		q := httptest.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		p := &request{server: &server{o: Options{Refresh: time.Hour}}, ctx: ctx, r: q, q: q.URL.Query()}
		if _, err := r.get(p, func(context.Context) (int, error) { reads++; return 0, nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		do   func()
		want int
	}{
		{"two ask for the same", func() {
			ask(t.Context(), "/executions?state=failed&name=a")
			ask(t.Context(), "/executions?name=a&state=failed")
		}, 1},
		{"another filter", func() { ask(t.Context(), "/executions?state=failed") }, 2},
		{"another page", func() { ask(t.Context(), "/failures?state=failed") }, 3},
		{"a stream, which all who have the page open share", func() { ask(context.WithValue(t.Context(), captureKey{}, &capture{}), "/executions?state=failed") }, 4},
		{"something was done", func() { r.forget(); ask(t.Context(), "/executions?state=failed") }, 5},
	} {
		if c.do(); reads != c.want {
			t.Errorf("%s: read %d times, want %d", c.name, reads, c.want)
		}
	}
	for i := range 3 * mostReadings {
		ask(t.Context(), fmt.Sprintf("/executions?name=%d", i))
	}
	if len(r.all) > mostReadings {
		t.Errorf("%d answers are kept, want at most %d", len(r.all), mostReadings)
	}
}
