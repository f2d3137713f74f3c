package engine

import "sync"

// Quota bounds how many executions pools claim together. A nil Quota has no bound.
type Quota struct {
	mu   sync.Mutex // guards left
	left int
}

// NewQuota allows n claims.
func NewQuota(n int) *Quota { return &Quota{left: n} }

// take reserves up to n claims.
func (q *Quota) take(n int) int {
	if q == nil {
		return n
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, q.left)
	q.left -= n
	return n
}

// giveBack returns claims that were reserved and found nothing.
func (q *Quota) giveBack(n int) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.left += n
}

// Spent reports that nothing is left to claim for.
func (q *Quota) Spent() bool {
	if q == nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.left == 0
}
