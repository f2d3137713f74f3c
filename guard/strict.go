package guard

import (
	"errors"
	"fmt"
)

// ErrEmpty is what [Strict] returns for a guard whose list is empty.
var ErrEmpty = errors.New("the list is empty, so it would let everybody through")

type lister interface {
	Name() string
	empty() bool
}

// Strict refuses a guard that an empty list has disabled. It wraps a constructor:
//
//	hosts, err := guard.Strict(guard.Hostname(names...))
func Strict[G lister](g G, err error) (G, error) {
	var none G
	if err != nil {
		return none, err
	}
	if g.empty() {
		return none, fmt.Errorf("%s guard: %w", g.Name(), ErrEmpty)
	}
	return g, nil
}
