package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Networks allows machines by address; see [CIDR].
type Networks struct {
	allowed []netip.Prefix // masked; IPv4 never written as IPv6
	current func() ([]netip.Addr, error)
}

// CIDR allows the machines one of whose interfaces has an address in the list:
// exact addresses ("10.0.0.7", "fd00::7") and networks ("10.0.0.0/8", "fd00::/8"),
// IPv4 and IPv6 mixed. Addresses compare by value, and an IPv4 address written as
// IPv6 (::ffff:10.0.0.7) is the IPv4 address (S27.6); otherwise the families never
// match each other, so that ::/0 allows no IPv4 address. Every interface counts,
// the loopback too. An entry that does not parse is an error here (S27.5). An empty
// list disables the guard.
func CIDR(allowed ...string) (*Networks, error) {
	g := &Networks{current: interfaceAddresses}
	var problems []error
	for i, entry := range allowed {
		p, err := parseNetwork(strings.TrimSpace(entry))
		if err != nil {
			problems = append(problems, fmt.Errorf("cidr guard: entry %d, %q: %w", i+1, entry, err))
			continue
		}
		g.allowed = append(g.allowed, p)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return g, nil
}

// WithAddresses returns a guard that takes these for this machine's addresses.
func (g *Networks) WithAddresses(addrs []netip.Addr) *Networks {
	addrs = slices.Clone(addrs)
	return &Networks{allowed: g.allowed, current: func() ([]netip.Addr, error) { return addrs, nil }}
}

// Name is "cidr".
func (g *Networks) Name() string { return "cidr" }

// Allow compares the addresses of this machine's interfaces with the list.
func (g *Networks) Allow(context.Context) (ok bool, reason string, err error) {
	if g.empty() {
		return true, "", nil
	}
	addrs, err := g.current()
	if err != nil {
		return false, "", fmt.Errorf("list the addresses of this machine: %w", err)
	}
	if len(addrs) == 0 {
		return false, "this machine has no address to compare", nil
	}
	for _, a := range addrs {
		a = a.Unmap().WithZone("") // an interface is named by the machine, not by the list
		if slices.ContainsFunc(g.allowed, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return true, "", nil
		}
	}
	return false, fmt.Sprintf("no address of this machine (%s) is allowed, only %s", some(addrs), some(g.allowed)), nil
}

func (g *Networks) empty() bool { return len(g.allowed) == 0 }

// parseNetwork reads an address, as the network that holds nothing else, or a network.
func parseNetwork(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		if a.Zone() != "" {
			return netip.Prefix{}, errors.New("an address with a zone names an interface; leave the zone out")
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	// ::ffff:10.0.0.0/104 is 10.0.0.0/8. A shorter one spans more than the mapped
	// addresses and stays IPv6: it matches no IPv4 address.
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

func interfaceAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if addr, ok := netip.AddrFromSlice(n.IP); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs, nil
}
