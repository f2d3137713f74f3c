package guard

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Hosts allows machines by host name; see [Hostname].
type Hosts struct {
	allowed []string
	current func() (string, error)
}

// Hostname allows the machines with exactly these host names, in this case
// (S27.3), as the system reports its own. An empty list disables the guard.
func Hostname(allowed ...string) (*Hosts, error) {
	allowed, err := names("hostname", allowed)
	if err != nil {
		return nil, err
	}
	return &Hosts{allowed: allowed, current: os.Hostname}, nil
}

// WithHostname returns a guard that takes name for this machine's host name.
func (g *Hosts) WithHostname(name string) *Hosts {
	return &Hosts{allowed: g.allowed, current: func() (string, error) { return name, nil }}
}

// Name is "hostname".
func (g *Hosts) Name() string { return "hostname" }

// Allow compares this machine's host name with the list.
func (g *Hosts) Allow(context.Context) (ok bool, reason string, err error) {
	if g.empty() {
		return true, "", nil
	}
	current, err := g.current()
	if err != nil {
		return false, "", fmt.Errorf("ask for the host name: %w", err)
	}
	if slices.Contains(g.allowed, current) {
		return true, "", nil
	}
	return false, fmt.Sprintf("host %q is not allowed, only %s", current, strings.Join(g.allowed, ", ")), nil
}

func (g *Hosts) empty() bool { return len(g.allowed) == 0 }
