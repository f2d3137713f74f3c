// Package timeline holds the worked timelines of the queue (Q13), the combined scenario
// (S43), and the matrix of abilities and paths (S1.3) as tests: what runs when, to the
// second, on every backend. The worker is the one that users have, and the time is a
// synctest bubble's, on real servers too (package faketime).
//
// A further timeline is a line in a table, and so are an ability (abilities_test.go), a path
// (matrix_test.go), and a backend (world_test.go). Pairs of what operations declare go
// through random histories, on the memory store alone (pairs_test.go).
//
//	go test ./internal/timeline -run 'S1_3.*Path$' -v
//
// prints the matrix.
package timeline
