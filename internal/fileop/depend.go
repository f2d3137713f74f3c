package fileop

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gosequencer/sequencer"
)

// dependencies turns the words of a depends key into dependencies. A name without
// a kind is an operation or a migration, whichever there is; a timestamp alone is
// the one thing that has it.
func (s *Set) dependencies(f *File, migrations []string) ([]sequencer.Dependency, error) {
	var deps []sequencer.Dependency
	var faults []error
	for _, word := range f.Header.Depends {
		d, err := s.dependency(word, migrations)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: depends %s: %w", f.Path, word, err))
			continue
		}
		deps = append(deps, d)
	}
	return deps, errors.Join(faults...)
}

func (s *Set) dependency(word string, migrations []string) (sequencer.Dependency, error) {
	if name, ok := strings.CutPrefix(word, "operation:"); ok {
		return sequencer.Op(name), nil
	}
	if name, ok := strings.CutPrefix(word, "migration:"); ok {
		return sequencer.Migration(name), nil
	}
	var found []sequencer.Dependency
	for _, f := range s.Files {
		if f.Ordered() && means(word, f.Name) {
			found = append(found, sequencer.Op(f.Name))
		}
	}
	for _, name := range migrations {
		if means(word, name) {
			found = append(found, sequencer.Migration(name))
		}
	}
	if exact := slices.DeleteFunc(slices.Clone(found), func(d sequencer.Dependency) bool { return d.Name != word }); len(exact) == 1 {
		return exact[0], nil
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return sequencer.Dependency{}, errors.New("unknown dependency: no operation and no migration has that name or timestamp; correct it, or add the file that it means")
	}
	names := make([]string, len(found))
	for i, d := range found {
		names[i] = d.String()
	}
	return sequencer.Dependency{}, fmt.Errorf("it may mean %s: write operation:NAME or migration:NAME", strings.Join(names, " or "))
}

// means reports whether word names it: in full, by timestamp, or by what follows it.
func means(word, name string) bool {
	if word == name {
		return true
	}
	if len(name) > 4 && name[4] == '_' { // 2024_01_15_120000_seed
		at := len("2006_01_02_150405")
		return len(name) > at && (word == name[:at] || word == name[at+1:])
	}
	stamp, rest, ok := strings.Cut(name, "_")
	return ok && (word == stamp || word == rest)
}
