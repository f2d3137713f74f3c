package storage_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer/storage"
)

func TestIDTextRoundTrip(t *testing.T) {
	t.Parallel()
	id := storage.NewID()
	parsed, err := storage.ParseID(id.String())
	if err != nil || parsed != id {
		t.Errorf("ParseID(%q) = %v, %v", id.String(), parsed, err)
	}
	type carrier struct{ ID storage.ID }
	for _, want := range []carrier{{id}, {}} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := carrier{storage.NewID()} // the zero ID must overwrite
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Errorf("%s came back as %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestIDsThatAreNoUUIDAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "019b7d00-1111-7000-8000-00000000abc", "019b7d00-1111-7000-8000-00000000abcg"} {
		if id, err := storage.ParseID(text); err == nil {
			t.Errorf("ParseID(%q) = %v, want an error", text, id)
		}
	}
	var id storage.ID
	if err := id.UnmarshalText([]byte("x")); err == nil {
		t.Error("UnmarshalText of x gave no error")
	}
}

func TestZeroIDMeansNone(t *testing.T) {
	t.Parallel()
	var zero storage.ID
	if !zero.IsZero() || zero.String() != "" || storage.NewID().IsZero() {
		t.Errorf("zero: IsZero %v, text %q; a new one: IsZero %v", zero.IsZero(), zero.String(), storage.NewID().IsZero())
	}
}

func TestIDsOfOneProcessAscend(t *testing.T) {
	t.Parallel()
	last := storage.NewID().String()
	for range 1000 {
		next := storage.NewID().String()
		if next <= last {
			t.Fatalf("%s came after %s", next, last)
		}
		last = next
	}
}

func TestUndoIDIsTheSameEverywhereAndDiffersInTheVersionAlone(t *testing.T) { // F4
	t.Parallel()
	id, err := storage.ParseID("019b7d00-1111-7abc-8000-00000000abcd")
	if err != nil {
		t.Fatal(err)
	}
	want := "019b7d00-1111-8abc-8000-00000000abcd"
	if got := storage.UndoID(id).String(); got != want {
		t.Errorf("UndoID = %s, want %s", got, want)
	}
	if storage.UndoID(storage.UndoID(id)) != storage.UndoID(id) {
		t.Error("the undo of an undo has another id")
	}
	if id.String() != "019b7d00-1111-7abc-8000-00000000abcd" {
		t.Errorf("UndoID changed its argument to %s", id)
	}
}

func TestApprovalsOfASubjectHaveIDsThatFollowFromIt(t *testing.T) { // A1
	t.Parallel()
	seen := map[storage.ID]string{}
	for _, subject := range []string{"20240101000000_drop", "20240101000000_drop 1", storage.NewID().String()} {
		for n := range 20 {
			id := storage.ApprovalID(subject, n)
			if id != storage.ApprovalID(subject, n) || id.String()[14] != '8' || !strings.ContainsRune("89ab", rune(id.String()[19])) {
				t.Errorf("ApprovalID(%q, %d) = %s", subject, n, id)
			}
			if of := seen[id]; of != "" {
				t.Errorf("ApprovalID(%q, %d) is that of %s", subject, n, of)
			}
			seen[id] = fmt.Sprintf("%q, %d", subject, n)
		}
	}
}
