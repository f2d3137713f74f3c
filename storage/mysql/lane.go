package mysql

import "github.com/gosequencer/sequencer/storage"

// Lanes are places in the one index of live rows, see the schema. A queue's own name
// is the lane of what can be claimed from it.

// runningLane is where the rows are that a worker holds.
func runningLane(worker storage.ID) []byte {
	return append([]byte{1}, worker[:]...)
}

// parkedLane is where the parked rows of an operation are; without a name it is
// where those of the queue begin, and afterParked where they end.
func parkedLane(queue, name string) []byte {
	lane := append(make([]byte, 0, 2+len(queue)+len(name)), 0)
	lane = append(lane, queue...)
	lane = append(lane, 0)
	return append(lane, name...)
}

func afterParked(queue string) []byte {
	lane := parkedLane(queue, "")
	lane[len(lane)-1] = 1
	return lane
}
