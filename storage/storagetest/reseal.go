package storagetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/storage"
)

var resealRules = []rule{
	{"Q7.7 Reseal replaces input, checkpoint and result of a row in any state, and nothing else of it", func(t *testing.T, l *lab) {
		for _, s := range storage.States {
			e := l.reach(s)
			was := l.get(e.ID)
			if len(was.Input) == 0 {
				t.Fatalf("a row that is %s has no input to replace", s)
			}
			l.tick(time.Second)
			if n := l.reseal(storage.Reseal{ID: e.ID, Field: storage.FieldInput, Old: was.Input, New: []byte("\x02\x01kother")}); n != 1 {
				t.Errorf("%s: %d fields were changed, want 1", s, n)
			}
			want := was
			want.Input = []byte("\x02\x01kother")
			if diff := cmp.Diff(want, l.get(e.ID)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", s, diff)
			}
		}
	}},
	{"Q7.7 Reseal of several fields of several rows at once counts what it changed", func(t *testing.T, l *lab) {
		w := l.join()
		a, b := l.row("a"), l.row("b")
		a.Input, b.Input = []byte("a1"), []byte{0, 1, 0xff}
		l.enqueue(a, b)
		held := l.claim(w)
		first, second := held[0], held[1]
		l.must(l.store.Checkpoint(t.Context(), storage.CheckpointRequest{Now: l.now, Worker: w, ID: first.ID, Delivery: first.Delivery, Data: []byte("c1")}), "Checkpoint")
		o := outcome(second, storage.Completed)
		o.Result = []byte("r1")
		l.settle(w, o)
		n := l.reseal(
			storage.Reseal{ID: first.ID, Field: storage.FieldInput, Old: first.Input, New: []byte("a2")},
			storage.Reseal{ID: first.ID, Field: storage.FieldCheckpoint, Old: []byte("c1"), New: []byte("c2")},
			storage.Reseal{ID: second.ID, Field: storage.FieldInput, Old: second.Input, New: []byte("b2")},
			storage.Reseal{ID: second.ID, Field: storage.FieldResult, Old: []byte("r1"), New: []byte("r2")},
		)
		x, y := l.get(first.ID), l.get(second.ID)
		if n != 4 || string(x.Input) != "a2" || string(x.Checkpoint) != "c2" || string(y.Input) != "b2" || string(y.Result) != "r2" {
			t.Errorf("%d changes gave %q, %q and %q, %q; want 4 and a2, c2, b2, r2", n, x.Input, x.Checkpoint, y.Input, y.Result)
		}
		l.settle(w, outcome(first, storage.Completed)) // its worker goes on, with the bytes it has
		if got := l.wantState(first.ID, storage.Completed); string(got.Input) != "a2" || string(got.Checkpoint) != "c2" {
			t.Errorf("after the end the row holds %q, %q; want a2, c2", got.Input, got.Checkpoint)
		}
	}},
	{"Q7.7 Reseal leaves alone what is no longer as it was read, what is empty and what is unknown; so a repeat changes nothing", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.Input = []byte("one")
		l.enqueue(a)
		change := storage.Reseal{ID: a.ID, Field: storage.FieldInput, Old: []byte("one"), New: []byte("two")}
		l.unchanged("changes that do not apply", func() {
			n := l.reseal(
				storage.Reseal{ID: a.ID, Field: storage.FieldInput, Old: []byte("on"), New: []byte("x")},
				storage.Reseal{ID: a.ID, Field: storage.FieldCheckpoint, New: []byte("x")},
				storage.Reseal{ID: l.id(), Field: storage.FieldInput, Old: []byte("one"), New: []byte("x")},
			)
			if n != 0 {
				t.Errorf("%d fields were changed, want none", n)
			}
		})
		if n := l.reseal(change); n != 1 {
			t.Fatalf("%d fields were changed, want 1", n)
		}
		l.unchanged("a repeat", func() {
			if n := l.reseal(change); n != 0 {
				t.Errorf("the repeat changed %d fields, want none", n)
			}
		})
	}},
	{"S34.26 Reseal is audited as one entry, with who, why, what about and how many", func(t *testing.T, l *lab) {
		var changes []storage.Reseal
		for i := range 3 {
			a := l.row(fmt.Sprint("a", i))
			a.Input = []byte("one")
			l.enqueue(a)
			changes = append(changes, storage.Reseal{ID: a.ID, Field: storage.FieldInput, Old: a.Input, New: []byte("two")})
		}
		l.reseal(changes...)
		got, err := l.store.Audit(t.Context(), storage.AuditFilter{})
		l.must(err, "Audit")
		if len(got) != 1 || got[0].Action != "rekey" || got[0].Actor != "grace@lab" || got[0].Target != "key k2" || got[0].Count != 3 || got[0].Reason != "rotation" {
			t.Errorf("audit %+v, want one rekey by grace@lab of 3, key k2, because rotation", got)
		}
	}},
	{"Q0.2 Reseal of a field that no row has is an error and changes nothing", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.Input = []byte("one")
		l.enqueue(a)
		l.unchanged("an unknown field", func() {
			_, err := l.store.Reseal(t.Context(), storage.ResealRequest{Now: l.now, Changes: []storage.Reseal{
				{ID: a.ID, Field: storage.FieldInput, Old: []byte("one"), New: []byte("two")},
				{ID: a.ID, Field: "policy", Old: []byte("one"), New: []byte("two")},
			}})
			if err == nil || !strings.Contains(err.Error(), `"policy"`) {
				t.Errorf("got error %v, want one that names the field", err)
			}
		})
	}},
}

func (l *lab) reseal(changes ...storage.Reseal) int {
	l.t.Helper()
	n, err := l.store.Reseal(l.t.Context(), storage.ResealRequest{Now: l.now, Changes: changes, Actor: "grace@lab", Reason: "rotation", Target: "key k2"})
	l.must(err, "Reseal")
	return n
}
