// Package middleware has the ready-made wraps around attempts. An operation returns
// them from its Middleware method, first = outermost; Config.Middleware holds those
// that wrap every operation:
//
//	func (s *SyncCustomer) Middleware() []sequencer.Middleware {
//		return []sequencer.Middleware{
//			middleware.RateLimited("external-api"),
//			middleware.WithoutOverlapping(s.CustomerID),
//			middleware.ThrottleErrors(5, 5*time.Minute).Backoff(30 * time.Second),
//		}
//	}
//
// What they count and lock lives in the store, so it holds for all processes that
// share it. A delivery that one of them turns away costs the operation nothing: no
// attempt, no error (Q1.3). The execution waits, and says for what; only a retry
// deadline bounds how often.
//
// Each is a small value with setters, so that it can be compared and printed. A
// mistake that needs no attempt to be seen, such as the name of a limiter that is not
// defined, is found by sequencer.New.
package middleware
