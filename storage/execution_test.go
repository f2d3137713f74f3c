package storage_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/storage"
)

func TestAttemptsAreDeliveriesThatWereNotExcused(t *testing.T) { // Q1.3
	t.Parallel()
	e := storage.Execution{Delivery: 5, Excused: 2}
	if got := e.Attempts(); got != 3 {
		t.Errorf("%d attempts, want 3", got)
	}
}

func TestUndoCarriesWhatARollbackWorksFrom(t *testing.T) { // S10.7
	t.Parallel()
	target := storage.Execution{
		ID: storage.NewID(), Name: "op", Kind: storage.Ordered, Method: "sync", Actor: "ada", Queue: "q", Priority: 1,
		Delay: time.Second, RetryFor: time.Hour, Input: []byte("in"), Policy: []byte("policy"), UniqueKey: "custom", UniqueFor: time.Hour,
		OnLoss: storage.LossInterrupt, MinBuild: 7, Tags: []string{"t"}, Undoable: true, AllowedToFail: true, Checksum: "sum",
		FlowID: storage.NewID(), Member: "m", Position: 3, WorkerID: storage.NewID(), State: storage.Completed,
		Delivery: 2, Errors: 1, Result: []byte("kept"), LastError: "old",
	}
	want := storage.Execution{
		Name: "op", Kind: storage.Undo, Method: "rollback", Actor: "ada", Queue: "q", Priority: 1, Input: []byte("in"), Policy: []byte("policy"),
		UniqueKey: storage.OrderedKey("op"), OnLoss: storage.LossInterrupt, Tags: []string{"t"}, AllowedToFail: true, Checksum: "sum",
		Member: "m", Undoes: target.ID, Result: []byte("kept"),
	}
	if diff := cmp.Diff(want, target.Undo()); diff != "" {
		t.Errorf("undo (-want +got):\n%s", diff)
	}
	target.Kind, want.UniqueKey = storage.Unlisted, ""
	if diff := cmp.Diff(want, target.Undo()); diff != "" {
		t.Errorf("undo of an unlisted execution (-want +got):\n%s", diff)
	}
}

func TestErrorsSayWhatTheyConcern(t *testing.T) {
	t.Parallel()
	id := storage.NewID()
	for want, err := range map[string]error{
		"holds no ledger":           &storage.SchemaError{Schema: storage.Schema{Want: 3}},
		"this binary wants 3":       &storage.SchemaError{Schema: storage.Schema{Version: 2, OldestCompatible: 1, Want: 3}},
		"upgrade it":                &storage.SchemaError{Schema: storage.Schema{Version: 5, OldestCompatible: 4, Want: 3}},
		id.String():                 &storage.DuplicateError{Name: "op", HolderID: id},
		"cannot become rolled_back": &storage.TransitionError{ID: id, Name: "op", From: storage.Running, To: storage.RolledBack},
		"ada (process on lab":       &storage.LockedError{Lock: storage.LockState{Name: "run", Worker: storage.Worker{Actor: "ada", Purpose: "process", Hostname: "lab"}}},
	} {
		if wrapped := fmt.Errorf("while testing: %w", err); !strings.Contains(wrapped.Error(), want) {
			t.Errorf("%q does not contain %q", wrapped, want)
		}
	}
}

func TestSchemaIsUsableFromItsVersionAsLongAsItServesThisBinary(t *testing.T) {
	t.Parallel()
	for s, want := range map[storage.Schema]bool{
		{Version: 0, OldestCompatible: 0, Want: 3}: false,
		{Version: 2, OldestCompatible: 1, Want: 3}: false,
		{Version: 3, OldestCompatible: 1, Want: 3}: true,
		{Version: 5, OldestCompatible: 3, Want: 3}: true,
		{Version: 5, OldestCompatible: 4, Want: 3}: false,
	} {
		if got := s.Usable(); got != want {
			t.Errorf("%+v: usable %v, want %v", s, got, want)
		}
		err := error(&storage.SchemaError{Schema: s})
		if e, ok := errors.AsType[*storage.SchemaError](err); !ok || e.Missing() != (s.Version == 0) {
			t.Errorf("%+v: missing %v", s, e.Missing())
		}
	}
}

func TestTheTimeThatIsLeftIsReckonedFromTheRateSoFar(t *testing.T) {
	t.Parallel()
	now := time.Now()
	row := storage.Execution{State: storage.Running, StartedAt: now.Add(-time.Minute), Done: 300, Total: 1200}
	if got := row.Left(now); got != 3*time.Minute {
		t.Errorf("a quarter done in a minute: %s left, want 3m", got)
	}
	for what, change := range map[string]func(*storage.Execution){
		"waits": func(e *storage.Execution) { e.State = storage.Pending }, "never started": func(e *storage.Execution) { e.StartedAt = time.Time{} },
		"did nothing": func(e *storage.Execution) { e.Done = 0 }, "does not know": func(e *storage.Execution) { e.Total = 0 },
		"is at the end": func(e *storage.Execution) { e.Done = 1200 }, "starts in the future": func(e *storage.Execution) { e.StartedAt = now.Add(time.Hour) },
	} {
		e := row
		change(&e)
		if got := e.Left(now); got != 0 {
			t.Errorf("one that %s: %s left, want no guess", what, got)
		}
	}
}
