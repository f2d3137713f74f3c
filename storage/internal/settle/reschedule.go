package settle

import (
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Reschedulable refuses executions that have no time of their own to be moved: those that
// are not pending, and those that start when others of their flow are over.
func Reschedulable(executions []storage.Execution) error {
	for i := range executions {
		switch e := &executions[i]; {
		case e.State != storage.Pending:
			return &storage.TransitionError{ID: e.ID, Name: e.Name, From: e.State, To: storage.Pending}
		case e.Waits > 0 || e.Kind == storage.Nested:
			return fmt.Errorf("%s (%s) waits for others of its flow and starts when they are over: it cannot be rescheduled", e.Name, e.ID)
		}
	}
	return nil
}
