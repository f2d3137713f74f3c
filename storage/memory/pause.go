package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

// paused names what a pause is about.
type paused struct {
	kind storage.PauseKind
	name string
}

// pause carries out ActPause and ActResume.
func (t *tx) pause(o storage.Order) error {
	p := storage.Pause{Kind: o.Pause.Kind, Name: o.Pause.Name, At: t.now, Actor: o.Actor, Reason: o.Reason}
	if err := p.Validate(); err != nil {
		return err
	}
	key := paused{p.Kind, p.Name}
	if _, is := t.pauses[key]; is == (o.Action == storage.ActPause) {
		return nil
	}
	if o.Action == storage.ActPause {
		t.pauses[key] = p
	} else {
		delete(t.pauses, key)
		t.arrivals.Lifted(p)
	}
	t.addAudit(string(o.Action), p.Target(), o.Actor, o.Reason, 1)
	return nil
}

func (s *Store) isPaused(kind storage.PauseKind, name string) bool {
	_, is := s.pauses[paused{kind, name}]
	return is
}

// pausedNames are the operations that are paused, sorted.
func (s *Store) pausedNames() []string {
	var names []string
	for key := range s.pauses {
		if key.kind == storage.PauseOperation {
			names = append(names, key.name)
		}
	}
	slices.Sort(names)
	return names
}

// Pauses implements [storage.Reader].
func (s *Store) Pauses(ctx context.Context) ([]storage.Pause, error) {
	found := []storage.Pause{}
	err := s.read(ctx, func() error {
		found = slices.AppendSeq(found, maps.Values(s.pauses))
		return nil
	})
	slices.SortFunc(found, func(a, b storage.Pause) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return found, err
}
