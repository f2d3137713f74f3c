package guard

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Environments allows environments by name; see [Environment].
type Environments struct {
	current string
	allowed []string
}

// Environment allows the environments with exactly these names, in this case;
// current is the one this process runs in. An empty list disables the guard; an
// empty current is an environment that no list allows.
func Environment(current string, allowed ...string) (*Environments, error) {
	allowed, err := names("environment", allowed)
	if err != nil {
		return nil, err
	}
	return &Environments{current: current, allowed: allowed}, nil
}

// Name is "environment".
func (g *Environments) Name() string { return "environment" }

// Allow compares the current environment with the list.
func (g *Environments) Allow(context.Context) (ok bool, reason string, err error) {
	if g.empty() || slices.Contains(g.allowed, g.current) {
		return true, "", nil
	}
	return false, fmt.Sprintf("environment %q is not allowed, only %s", g.current, strings.Join(g.allowed, ", ")), nil
}

func (g *Environments) empty() bool { return len(g.allowed) == 0 }
