package guard_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"github.com/gosequencer/sequencer/guard"
)

// asks is what sequencer.Guard asks of a guard; this package does not import root.
type asks interface {
	Name() string
	Allow(ctx context.Context) (ok bool, reason string, err error)
}

var (
	_ asks = (*guard.Hosts)(nil)
	_ asks = (*guard.Networks)(nil)
	_ asks = (*guard.Environments)(nil)
	_ asks = (*guard.Windows)(nil)
	_ asks = (*guard.Function)(nil)
)

// allows checks the answer; a refusal must give a reason that contains all the words.
func allows(t *testing.T, g asks, want bool, words ...string) {
	t.Helper()
	ok, reason, err := g.Allow(t.Context())
	if err != nil || ok != want || ok != (reason == "") {
		t.Errorf("%s: Allow = %v, %q, %v; want %v, a reason only with a refusal, no error", g.Name(), ok, reason, err, want)
	}
	for _, w := range words {
		if !strings.Contains(reason, w) {
			t.Errorf("%s: reason %q lacks %q", g.Name(), reason, w)
		}
	}
}

func must[G asks](t *testing.T) func(G, error) G {
	t.Helper()
	return func(g G, err error) G {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
}

func TestS27_3_HostnameIsExactAndSaysBothSides(t *testing.T) {
	t.Parallel()
	g := must[*guard.Hosts](t)(guard.Hostname("web-1", " web-2 "))
	allows(t, g.WithHostname("web-1"), true)
	allows(t, g.WithHostname("web-2"), true)
	allows(t, g.WithHostname("Web-1"), false, `"Web-1"`, "web-1", "web-2")
	allows(t, g.WithHostname("web-10"), false)
	allows(t, g.WithHostname("web"), false)
	allows(t, g.WithHostname(""), false)

	system, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	allows(t, must[*guard.Hosts](t)(guard.Hostname(system)), true)
	allows(t, must[*guard.Hosts](t)(guard.Hostname(system+"x")), false, system)
}

func TestS27_4_AddressesAndNetworksOfBothFamiliesMix(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		list []string
		addr string
		want bool
	}{
		{[]string{"10.0.0.7"}, "10.0.0.7", true},
		{[]string{"10.0.0.7"}, "10.0.0.8", false},
		{[]string{"10.0.0.7"}, "10.0.0.70", false},
		{[]string{"10.0.0.0/8"}, "10.255.0.1", true},
		{[]string{"10.0.0.0/8"}, "11.0.0.1", false},
		{[]string{"10.1.2.3/8"}, "10.9.9.9", true}, // the bits after the prefix do not count
		{[]string{"10.0.0.0/31"}, "10.0.0.2", false},
		{[]string{"0.0.0.0/0"}, "203.0.113.9", true},
		{[]string{"fd00::7"}, "fd00::7", true},
		{[]string{"fd00::/8"}, "fd12::1", true},
		{[]string{"fd00::/8"}, "fe80::1", false},
		{[]string{"192.168.0.0/16", "fd00::/8", "10.0.0.7"}, "10.0.0.7", true},
		{[]string{"192.168.0.0/16", "fd00::/8", "10.0.0.7"}, "fd00::1", true},
		{[]string{"192.168.0.0/16", "fd00::/8", "10.0.0.7"}, "10.0.0.8", false},
		// Families never match each other, not even the networks of everything.
		{[]string{"0.0.0.0/0"}, "fd00::1", false},
		{[]string{"::/0"}, "10.0.0.1", false},
		{[]string{"::/0"}, "::ffff:10.0.0.1", false},
		{[]string{"::ffff:0:0/90"}, "10.0.0.1", false},
		// S27.6: by value, in whatever spelling.
		{[]string{"fd00:0:0::0007"}, "fd00::7", true},
		{[]string{"FD00::A"}, "fd00::a", true},
		{[]string{"::ffff:10.0.0.7"}, "10.0.0.7", true},
		{[]string{"10.0.0.7"}, "::ffff:10.0.0.7", true},
		{[]string{"10.0.0.0/8"}, "::ffff:a00:7", true},
		{[]string{"::ffff:10.0.0.0/104"}, "10.9.9.9", true},
		{[]string{"::ffff:10.0.0.0/104"}, "11.0.0.1", false},
		{[]string{"fe80::/10"}, "fe80::1%eth0", true},
	} {
		g := must[*guard.Networks](t)(guard.CIDR(c.list...))
		if ok, reason, err := g.WithAddresses([]netip.Addr{netip.MustParseAddr(c.addr)}).Allow(t.Context()); ok != c.want || err != nil {
			t.Errorf("CIDR(%q) for %s = %v, %q, %v; want %v", c.list, c.addr, ok, reason, err, c.want)
		}
	}
}

func TestS27_4_NoAddressBlocksWithAReasonOfItsOwn(t *testing.T) {
	t.Parallel()
	g := must[*guard.Networks](t)(guard.CIDR("0.0.0.0/0", "::/0"))
	allows(t, g.WithAddresses(nil), false, "no address to compare")
	allows(t, g.WithAddresses([]netip.Addr{{}}), false)
	many := make([]netip.Addr, 0, 300)
	for a := netip.MustParseAddr("10.0.0.0"); len(many) < cap(many); a = a.Next() {
		many = append(many, a)
	}
	g = must[*guard.Networks](t)(guard.CIDR("192.168.7.0/24", "fd00::7"))
	allows(t, g.WithAddresses(many), false, "10.0.0.0", "and 292 more", "192.168.7.0/24", "fd00::7")
}

// W31: in the original each of these allowed every address.
func TestS27_5_MalformedEntriesAreAnErrorAtConstruction(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"10.0.0.0/", "10.0.0.0/x", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/8/8", "10.0.0.0/ 8",
		"/8", "/", "", " ", "10.0.0", "10.0.0.256", "010.0.0.1", "web-1", "*", "0", "fd00::/129", "fd00::/", "fd00::1%eth0", "fe80::%eth0/64",
		"10.0.0.1,10.0.0.2",
	} {
		g, err := guard.CIDR("192.168.0.0/16", entry)
		if err == nil || g != nil || !strings.Contains(err.Error(), "entry 2") {
			t.Errorf("CIDR(%q) = %v, %v; want an error that names the entry", entry, g, err)
		}
	}
	_, err := guard.CIDR("10.0.0.0/", "10.0.0.1", "nonsense")
	if err == nil || !strings.Contains(err.Error(), "entry 1") || !strings.Contains(err.Error(), "entry 3") {
		t.Errorf("CIDR = %v, want both wrong entries", err)
	}
}

func TestS27_6_AllInterfaceAddressesCount(t *testing.T) {
	t.Parallel()
	g := must[*guard.Networks](t)(guard.CIDR("10.0.0.0/8"))
	addrs := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("10.0.0.7")}
	allows(t, g.WithAddresses(addrs), true)
	allows(t, g.WithAddresses(addrs[:2]), false, "127.0.0.1", "fe80::1")

	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Skip(err)
	}
	for _, a := range all { // each address of this machine by itself
		p := netip.MustParsePrefix(a.String())
		allows(t, must[*guard.Networks](t)(guard.CIDR(p.Addr().String())), true)
	}
	if len(all) > 0 {
		allows(t, must[*guard.Networks](t)(guard.CIDR("203.0.113.77")), false, "203.0.113.77/32")
	}
}

func TestS27_7_AnEmptyListDisablesUnlessStrict(t *testing.T) {
	t.Parallel()
	allows(t, must[*guard.Hosts](t)(guard.Hostname()), true)
	allows(t, must[*guard.Networks](t)(guard.CIDR()).WithAddresses(nil), true)
	allows(t, must[*guard.Environments](t)(guard.Environment("production")), true)
	allows(t, must[*guard.Windows](t)(guard.Window()), true)

	for name, strict := range map[string]error{
		"hostname":    second(guard.Strict(guard.Hostname())),
		"cidr":        second(guard.Strict(guard.CIDR())),
		"environment": second(guard.Strict(guard.Environment("production"))),
		"window":      second(guard.Strict(guard.Window())),
	} {
		if !errors.Is(strict, guard.ErrEmpty) || !strings.Contains(strict.Error(), name) {
			t.Errorf("Strict of an empty %s guard = %v, want ErrEmpty with its name", name, strict)
		}
	}

	// Control: Strict changes nothing for a list, and passes an error on.
	allows(t, must[*guard.Hosts](t)(guard.Strict(guard.Hostname("web-1"))).WithHostname("web-1"), true)
	if g, err := guard.Strict(guard.CIDR("10.0.0.0/")); g != nil || err == nil || errors.Is(err, guard.ErrEmpty) {
		t.Errorf("Strict of a malformed list = %v, %v; want the parse error", g, err)
	}
}

func second[G any](_ G, err error) error { return err }

// strings.Split of an unset variable is one empty entry: no list, but no permission either.
func TestS27_7_AnEmptyEntryIsAnError(t *testing.T) {
	t.Parallel()
	unset := strings.Split("", ",")
	for name, err := range map[string]error{
		"hostname":    second(guard.Hostname(unset...)),
		"cidr":        second(guard.CIDR(unset...)),
		"environment": second(guard.Environment("production", "production", " ")),
	} {
		if err == nil || !strings.Contains(err.Error(), name+" guard: entry") {
			t.Errorf("%s: error = %v, want one that names the guard and the entry", name, err)
		}
	}
}

func TestGuardsKeepTheirOwnList(t *testing.T) {
	t.Parallel()
	list := []string{"web-1"}
	g := must[*guard.Hosts](t)(guard.Hostname(list...)).WithHostname("web-1")
	list[0] = "web-2"
	allows(t, g, true)
}

func TestS27_10_EnvironmentIsExact(t *testing.T) {
	t.Parallel()
	allows(t, must[*guard.Environments](t)(guard.Environment("staging", "production", "staging")), true)
	allows(t, must[*guard.Environments](t)(guard.Environment("Production", "production")), false, `"Production"`, "only production")
	allows(t, must[*guard.Environments](t)(guard.Environment("", "production")), false)
}

func TestS27_10_FuncAnswersForAFunction(t *testing.T) {
	t.Parallel()
	type key struct{}
	broken := errors.New("disk unreadable")
	for _, c := range []struct {
		ok     bool
		reason string
		err    error
		want   string
	}{{true, "", nil, ""}, {false, "disk is full", nil, "disk is full"}, {false, "", nil, "disk does not allow it"}, {false, "", broken, ""}} {
		g := must[*guard.Function](t)(guard.Func("disk", func(ctx context.Context) (bool, string, error) {
			if ctx.Value(key{}) != 1 {
				t.Error("the function did not get the caller's context")
			}
			return c.ok, c.reason, c.err
		}))
		ok, reason, err := g.Allow(context.WithValue(t.Context(), key{}, 1))
		if ok != c.ok || reason != c.want || !errors.Is(err, c.err) || g.Name() != "disk" {
			t.Errorf("%s: Allow = %v, %q, %v; want %v, %q, %v", g.Name(), ok, reason, err, c.ok, c.want, c.err)
		}
	}
	if err := second(guard.Func(" ", func(context.Context) (bool, string, error) { return true, "", nil })); err == nil {
		t.Error("Func without a name: want an error")
	}
	if err := second(guard.Func("disk", nil)); err == nil {
		t.Error("Func without a function: want an error")
	}
}

func TestS27_10_WindowOpensAndCloses(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	office := guard.Hours{Days: guard.Weekdays, From: "09:00", To: "17:00"}
	night := guard.Hours{Days: []time.Weekday{time.Friday}, From: "22:00", To: "04:00"}
	nightly := guard.Hours{From: "22:00", To: "04:00", Location: berlin}
	for _, c := range []struct {
		at    string
		want  bool
		spans []guard.Hours
	}{
		{"2026-01-05T08:59:59Z", false, []guard.Hours{office}}, // a Monday
		{"2026-01-05T09:00:00Z", true, []guard.Hours{office}},
		{"2026-01-05T16:59:59Z", true, []guard.Hours{office}},
		{"2026-01-05T17:00:00Z", false, []guard.Hours{office}},
		{"2026-01-04T12:00:00Z", false, []guard.Hours{office}}, // Sunday

		// Over midnight: the span belongs to the day it opens on.
		{"2026-01-09T21:59:59Z", false, []guard.Hours{night}}, // Friday
		{"2026-01-09T22:00:00Z", true, []guard.Hours{night}},
		{"2026-01-10T03:59:59Z", true, []guard.Hours{night}}, // Saturday
		{"2026-01-10T04:00:00Z", false, []guard.Hours{night}},
		{"2026-01-09T03:00:00Z", false, []guard.Hours{night}}, // Friday morning is Thursday's
		{"2026-01-10T22:30:00Z", false, []guard.Hours{night}},

		// The clock hangs in Berlin, and follows its summer time.
		{"2026-01-05T20:59:00Z", false, []guard.Hours{nightly}},
		{"2026-01-05T21:00:00Z", true, []guard.Hours{nightly}},
		{"2026-07-06T19:59:00Z", false, []guard.Hours{nightly}},
		{"2026-07-06T20:00:00Z", true, []guard.Hours{nightly}},
		{"2026-03-29T01:59:00Z", true, []guard.Hours{nightly}}, // 03:59, an hour after 01:59
		{"2026-03-29T02:00:00Z", false, []guard.Hours{nightly}},

		// Ends left out, whole days, several spans.
		{"2026-01-05T00:00:00Z", true, []guard.Hours{{To: "01:00"}}},
		{"2026-01-05T01:00:00Z", false, []guard.Hours{{To: "01:00"}}},
		{"2026-01-05T23:59:59Z", true, []guard.Hours{{From: "23:00"}}},
		{"2026-01-05T23:59:59Z", true, []guard.Hours{{From: "23:00", To: "24:00"}}},
		{"2026-01-05T00:30:00Z", false, []guard.Hours{{From: "23:00", To: "00:00"}}},
		{"2026-01-05T23:30:00Z", true, []guard.Hours{{From: "23:00", To: "00:00"}}},
		{"2026-01-03T12:00:00Z", true, []guard.Hours{{Days: []time.Weekday{time.Saturday, time.Sunday}}}},
		{"2026-01-05T12:00:00Z", false, []guard.Hours{{Days: []time.Weekday{time.Saturday, time.Sunday}}}},
		{"2026-01-05T12:00:00Z", true, []guard.Hours{{}}},
		{"2026-01-10T03:00:00Z", true, []guard.Hours{office, night}},
		{"2026-01-05T10:00:00Z", true, []guard.Hours{office, night}},
		{"2026-01-05T20:00:00Z", false, []guard.Hours{office, night}},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			<-time.After(time.Until(at))
			g := must[*guard.Windows](t)(guard.Window(c.spans...))
			if ok, reason, err := g.Allow(t.Context()); ok != c.want || err != nil || ok != (reason == "") {
				t.Errorf("at %s in %+v: Allow = %v, %q, %v; want %v", c.at, c.spans, ok, reason, err, c.want)
			}
		})
	}
}

func TestS27_10_WindowSaysWhatItIsAndWhatIsOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // a bubble begins on Saturday, 2000-01-01, at midnight UTC
		g := must[*guard.Windows](t)(guard.Window(
			guard.Hours{Days: guard.Weekdays, From: "09:00", To: "17:30"}, guard.Hours{From: "22:00", To: "23:00"}))
		allows(t, g, false, "it is Sat 00:00 UTC", "Mon Tue Wed Thu Fri 09:00 to 17:30 UTC", "every day 22:00 to 23:00 UTC")
	})
}

func TestS27_10_WindowRefusesWhatIsNoTime(t *testing.T) {
	t.Parallel()
	for want, h := range map[string]guard.Hours{
		"From: \"25:00\"": {From: "25:00"},
		"From: \"24:00\"": {From: "24:00"},
		"From: \"9\"":     {From: "9"},
		"To: \"9:60\"":    {To: "9:60"},
		"To: \"24:01\"":   {To: "24:01"},
		"To: \"noon\"":    {To: "noon"},
		"are both":        {From: "09:00", To: "09:00"},
		"Days: 7":         {Days: []time.Weekday{7}},
	} {
		if g, err := guard.Window(guard.Hours{}, h); g != nil || err == nil ||
			!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "span 2") {
			t.Errorf("Window(%+v) = %v, %v; want an error with %s", h, g, err, want)
		}
	}
}
