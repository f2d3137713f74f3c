// Package backoff computes how long to wait before an attempt is repeated. It is
// a pure function of what is stored in the row, so whoever computes it gets the
// same answer.
package backoff

import "time"

// Delay is the wait before the retry after the n-th trouble (errors, timeouts and
// lost workers together; deferrals and shutdowns are none). The first entry comes
// before the first retry, the last one repeats; no steps mean at once (S12.2,
// Q1.23, Q1.24).
func Delay(steps []time.Duration, n int) time.Duration {
	if len(steps) == 0 || n < 1 {
		return 0
	}
	return steps[min(n, len(steps))-1]
}
