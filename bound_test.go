package sequencer

import (
	"strings"
	"testing"

	"github.com/gosequencer/sequencer/storage"
)

func TestACiphertextIsBoundToKeyNameExecutionAndField(t *testing.T) {
	t.Parallel()
	row := storage.Execution{ID: storage.NewID(), Name: "ab"}
	other := storage.Execution{ID: storage.NewID(), Name: "ab"}
	renamed := storage.Execution{ID: row.ID, Name: "a"}
	undo := row.Undo()
	undo.ID = storage.NewID()
	seen := map[string]string{}
	for what, data := range map[string][]byte{
		"input":              bound("k", &row, storage.FieldInput),
		"result":             bound("k", &row, storage.FieldResult),
		"checkpoint":         bound("k", &row, storage.FieldCheckpoint),
		"message":            bound("k", &row, fieldMessage),
		"another execution":  bound("k", &other, storage.FieldInput),
		"another name":       bound("k", &renamed, storage.FieldInput),
		"another key":        bound("kk", &row, storage.FieldInput),
		"shifted":            bound("kab", &storage.Execution{ID: row.ID}, storage.FieldInput),
		"an undo's own":      bound("k", &undo, storage.FieldCheckpoint),
		"an undo of another": bound("k", &storage.Execution{ID: undo.ID, Name: "ab", Undoes: other.ID}, storage.FieldResult),
	} {
		if twin := seen[string(data)]; twin != "" {
			t.Errorf("Q7.5: %s and %s are bound to the same", what, twin)
		}
		seen[string(data)] = what
	}
	for _, field := range []storage.Field{storage.FieldInput, storage.FieldResult, fieldMessage} {
		if string(bound("k", &undo, field)) != string(bound("k", &row, field)) {
			t.Errorf("S15.5: the %s of an undo is not bound to what it undoes", field)
		}
	}
}

func TestAStackKeepsNoArgumentsOfCalls(t *testing.T) {
	t.Parallel()
	const stack = `goroutine 7 [running]:
main.charge(0xf4112345, {0xc000012345, 0x10})
	/src/main.go:12 +0x1d
main.(*Card).Pay(...)
	/src/main.go:20
main.(*Card).Do(0xc00001, 0x2a?)
	/src/main.go:30 +0x25
created by main.start in goroutine 1
	/src/main.go:40 +0x30
`
	got := withoutArguments(stack)
	for _, leak := range []string{"f4112345", "c00001", "0x2a", "0x10}"} {
		if strings.Contains(got, leak) {
			t.Errorf("S15.4: the stack shows %s:\n%s", leak, got)
		}
	}
	for _, kept := range []string{"goroutine 7 [running]:\n", "main.charge(...)\n\t/src/main.go:12 +0x1d\n", "main.(*Card).Do(...)", "created by main.start in goroutine 1"} {
		if !strings.Contains(got, kept) {
			t.Errorf("Q7.4: the stack lacks %q:\n%s", kept, got)
		}
	}
}
