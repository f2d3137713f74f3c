package storage

import (
	"errors"
	"fmt"
	"time"
)

// Limit is how often something may happen: at most N times in a window of fixed
// length, which opens with the first time and is over Window later (Q3.12). All
// four fields name its counter, so that two builds that differ in what they allow
// do not count into one.
type Limit struct {
	Name   string        `json:"name"`
	By     string        `json:"by,omitempty"` // whose; "" = everybody's together
	N      int           `json:"n"`            // 0 = never (Q3.15)
	Window time.Duration `json:"window"`       // in whole microseconds
}

// MaxLimitKey bounds Limit.By, in bytes.
const MaxLimitKey = 512

// Validate returns an error unless l can be counted.
func (l Limit) Validate() error {
	switch {
	case l.Name == "" || len(l.Name) > MaxName:
		return fmt.Errorf("a limit needs a name of 1 to %d bytes, not %q", MaxName, l.Name)
	case len(l.By) > MaxLimitKey:
		return fmt.Errorf("limit %s: a key of %d bytes, %d are the most", l.Name, len(l.By), MaxLimitKey)
	case l.N < 0:
		return fmt.Errorf("limit %s: %d times, want 0 or more", l.Name, l.N)
	case l.Window < time.Microsecond || l.Window%time.Microsecond != 0:
		return fmt.Errorf("limit %s: a window of %s, want whole microseconds", l.Name, l.Window)
	}
	return nil
}

// TakeAction is what a TakeRequest does to the counters.
type TakeAction string

const (
	TakeOne   TakeAction = ""      // count once, if there is room
	TakeLook  TakeAction = "look"  // change nothing
	TakeReset TakeAction = "reset" // forget what was counted
)

// TakeRequest is about one or several limits, which must differ.
type TakeRequest struct {
	Now    time.Time
	Limits []Limit
	Action TakeAction
}

// Validate returns an error unless every limit can be counted and is there once.
func (r *TakeRequest) Validate() error {
	if len(r.Limits) == 0 {
		return errors.New("a request to take needs a limit")
	}
	for i, l := range r.Limits {
		if err := l.Validate(); err != nil {
			return err
		}
		for _, other := range r.Limits[:i] {
			if other == l {
				return fmt.Errorf("limit %s is there twice", l.Name)
			}
		}
	}
	switch r.Action {
	case TakeOne, TakeLook, TakeReset:
		return nil
	}
	return fmt.Errorf("limits can be taken from, looked at or reset, not %q", r.Action)
}

// Taken is the answer to a TakeRequest.
type Taken struct {
	// Wait is 0 if each limit had room, and for TakeOne was counted. Otherwise nothing
	// was counted, and there may be room again after Wait: the longest of those that
	// have none. Negative means never (a limit of 0).
	Wait time.Duration
	// Used is what each limit has counted in its window, after the call.
	Used []int
}
