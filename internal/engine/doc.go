// Package engine owns every goroutine, timer and lease. It knows rows and one
// function value, "make this attempt"; what an operation is, it does not know.
//
// [Hold] keeps a worker's lease while a function runs. Inside it, [Pool.Run]
// claims executions, has them attempted in goroutines, and records what came of
// them: outcomes that arrive while one write is in flight travel together in the
// next, and the same write claims new work for the slots that became free.
// [Rescue] takes over what dead workers held.
//
// Nothing here is lost when the process dies: what was claimed and not finished
// is rescued by whoever comes next, fenced by the delivery number.
package engine
