package sequencer

import (
	"encoding/json"
	"fmt"
	"time"
)

// policy is what an execution's outcome depends on beside its counters. It is
// frozen into the row at dispatch (Q0.4), so that whoever attempts or rescues it
// decides alike; nil bytes mean that nothing is declared.
type policy struct {
	Tries         *int    `json:"tries,omitempty"` // nil = not declared, 0 = unlimited
	BackoffMS     []int64 `json:"backoff_ms,omitempty"`
	TimeoutMS     int64   `json:"timeout_ms,omitempty"`
	FailOnTimeout bool    `json:"fail_on_timeout,omitempty"`
	MaxExceptions int     `json:"max_exceptions,omitempty"`
}

func readPolicy(stored []byte) (policy, error) {
	if len(stored) == 0 {
		return policy{}, nil
	}
	return parsePolicy(stored)
}

func parsePolicy(stored []byte) (policy, error) {
	var p policy
	if err := json.Unmarshal(stored, &p); err != nil {
		return p, fmt.Errorf("stored policy: %w", err)
	}
	return p, nil
}

func (p policy) bytes() []byte {
	if p.Tries == nil && len(p.BackoffMS) == 0 && p.TimeoutMS == 0 && !p.FailOnTimeout && p.MaxExceptions == 0 {
		return nil
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // numbers and booleans always marshal
	}
	return b
}

// tries is the limit and whether one was declared; undeclared means one attempt.
func (p policy) tries() (n int, declared bool) {
	if p.Tries == nil {
		return 1, false
	}
	return *p.Tries, true
}

func (p policy) backoff() []time.Duration {
	steps := make([]time.Duration, len(p.BackoffMS))
	for i, ms := range p.BackoffMS {
		steps[i] = time.Duration(ms) * time.Millisecond
	}
	return steps
}

func (p policy) timeout() time.Duration { return time.Duration(p.TimeoutMS) * time.Millisecond }

func (p *policy) setBackoff(steps []time.Duration) {
	p.BackoffMS = nil
	for _, d := range steps {
		p.BackoffMS = append(p.BackoffMS, d.Milliseconds())
	}
}
