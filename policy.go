package sequencer

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
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
	Hooks         int     `json:"hooks,omitempty"`    // which of after and failed there are
	Approver      string  `json:"approver,omitempty"` // who has to approve it; of an approval: who is asked

	// Key is a unique key that the execution takes when it runs; on connection Via, if that
	// is set, for KeepMS, and there it may have taken it before.
	Key    string `json:"key,omitempty"`
	Via    string `json:"via,omitempty"`
	KeepMS int64  `json:"keep_ms,omitempty"`
	// UntilStart: it gives its unique key up when its handler begins for the first time.
	UntilStart bool `json:"until_start,omitempty"`
	// Carried is what it takes along from its dispatch, see Config.Carry.
	Carried string `json:"carried,omitempty"`
	// NoWait: it is cancelled when it is put off.
	NoWait bool `json:"no_wait,omitempty"`
	// Duplicate is who held the unique key of a member when it was to be written.
	Duplicate storage.ID `json:"duplicate,omitzero"`
	// StandsIn: the row stands for a batch or chain, and there is nothing to run.
	StandsIn bool `json:"stands_in,omitempty"`
	// SealedAs is the id that the input is bound to, of a row made from a template.
	SealedAs storage.ID `json:"sealed_as,omitzero"`
	// Named is the time that the code named when a run queued it for later.
	Named time.Time `json:"named,omitzero"`
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
	if p.Tries == nil && len(p.BackoffMS) == 0 && p.TimeoutMS == 0 && !p.FailOnTimeout && p.MaxExceptions == 0 && p.Hooks == 0 && p.Approver == "" &&
		p.Key == "" && p.Carried == "" && !p.UntilStart && !p.NoWait && p.Duplicate.IsZero() && !p.StandsIn && p.SealedAs.IsZero() && p.Named.IsZero() {
		return nil
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // numbers and booleans always marshal
	}
	return b
}

// changePolicy is a stored policy with a change.
func changePolicy(stored []byte, change func(p *policy)) ([]byte, error) {
	p, err := readPolicy(stored)
	if err != nil {
		return nil, err
	}
	change(&p)
	return p.bytes(), nil
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
