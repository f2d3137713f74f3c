package cron_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/internal/cron"
)

const shown = "2006-01-02 15:04:05 -07:00"

// ticks are the next n instants after one of a zone's wall clock, as it shows them.
func ticks(t *testing.T, spec, zone, after string, n int) []string {
	t.Helper()
	e, err := cron.Parse(spec, zone)
	if err != nil {
		t.Fatalf("%s in %q: %v", spec, zone, err)
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.ParseInLocation("2006-01-02 15:04", after, loc)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for range n {
		at = e.Next(at)
		got = append(got, at.In(loc).Format(shown))
	}
	return got
}

func TestAnExpressionIsDueWhenItsFieldsSay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		spec, zone, after string
		want              []string
	}{
		{"*/20 * * * *", "", "2026-01-01 00:00", []string{"2026-01-01 00:20:00 +00:00", "2026-01-01 00:40:00 +00:00", "2026-01-01 01:00:00 +00:00"}},
		{"*/30 59 23 31 12 *", "", "2026-01-01 00:00", []string{"2026-12-31 23:59:00 +00:00", "2026-12-31 23:59:30 +00:00", "2027-12-31 23:59:00 +00:00"}},
		{"0 3 * * *", "Europe/Berlin", "2026-01-01 03:00", []string{"2026-01-02 03:00:00 +01:00"}},
		{"0 0 * * 7", "", "2026-01-01 00:00", []string{"2026-01-04 00:00:00 +00:00"}},
		{"0 0 13 * FRI", "", "2026-01-10 00:00", []string{"2026-01-13 00:00:00 +00:00", "2026-01-16 00:00:00 +00:00"}}, // either, as in a crontab
		{"0 0 L * *", "", "2028-02-01 00:00", []string{"2028-02-29 00:00:00 +00:00"}},
		{"0 0 15W * *", "", "2026-02-01 00:00", []string{"2026-02-16 00:00:00 +00:00"}}, // the 15th is a Sunday
		{"0 0 * * MON#2", "", "2026-01-01 00:00", []string{"2026-01-12 00:00:00 +00:00"}},
		{"0 0 * * FRI#L", "", "2026-01-01 00:00", []string{"2026-01-30 00:00:00 +00:00"}},
		{"0 0 29 2 *", "", "2096-03-01 00:00", []string{"2104-02-29 00:00:00 +00:00"}},
		{"0 1 1 1 *", "Europe/Berlin", "2040-01-02 00:00", []string{"2041-01-01 01:00:00 +01:00"}}, // past the zone's table, over a leap year's end
		{"0 22-1 * * *", "", "2026-01-01 22:30", []string{"2026-01-01 23:00:00 +00:00", "2026-01-02 00:00:00 +00:00", "2026-01-02 01:00:00 +00:00", "2026-01-02 22:00:00 +00:00"}},
		{"@hourly", "", "2026-01-01 00:30", []string{"2026-01-01 01:00:00 +00:00"}},
		{"@daily", "Asia/Kathmandu", "2026-01-01 00:30", []string{"2026-01-02 00:00:00 +05:45"}},
		{"@weekly", "", "2026-01-01 00:30", []string{"2026-01-04 00:00:00 +00:00"}},
		{"@monthly", "", "2026-01-01 00:30", []string{"2026-02-01 00:00:00 +00:00"}},
		{"@yearly", "", "2026-01-01 00:30", []string{"2027-01-01 00:00:00 +00:00"}},
		{"@every 90s", "", "2026-01-01 00:01", []string{"2026-01-01 00:01:30 +00:00", "2026-01-01 00:03:00 +00:00"}},
		{"@every 15m", "", "2026-01-01 00:01", []string{"2026-01-01 00:15:00 +00:00", "2026-01-01 00:30:00 +00:00"}},
		{"@every 24h", "", "2026-01-01 00:01", []string{"2026-01-02 00:00:00 +00:00"}},
	} {
		if diff := cmp.Diff(c.want, ticks(t, c.spec, c.zone, c.after, len(c.want))); diff != "" {
			t.Errorf("%s in %q after %s (-want +got):\n%s", c.spec, c.zone, c.after, diff)
		}
	}
}

// The rules of the package's comment. The library alone would lose the midnight
// of São Paulo, and fire 02:30 of Berlin's long night twice.
func TestWhenClocksChangeNothingIsLostAndNothingHappensTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, spec, zone, after string
		want                    []string
	}{
		{
			"a time that does not exist comes as long after the jump", "30 2 * * *", "Europe/Berlin", "2026-03-28 12:00",
			[]string{"2026-03-29 03:30:00 +02:00", "2026-03-30 02:30:00 +02:00"},
		},
		{
			"a midnight that does not exist is not a lost day", "0 0 * * *", "America/Sao_Paulo", "2018-11-02 12:00",
			[]string{"2018-11-03 00:00:00 -03:00", "2018-11-04 01:00:00 -02:00", "2018-11-05 00:00:00 -02:00"},
		},
		{
			"a day that does not exist comes the next", "0 3 30 12 *", "Pacific/Apia", "2011-12-01 00:00",
			[]string{"2011-12-31 03:00:00 +14:00", "2012-12-30 03:00:00 +14:00"},
		},
		{
			"what is due then anyway is due once", "0 2,3 * * *", "Europe/Berlin", "2026-03-29 00:00",
			[]string{"2026-03-29 03:00:00 +02:00", "2026-03-30 02:00:00 +02:00"},
		},
		{
			"quarters of the lost hour fall upon those of the next", "*/15 2-3 * * *", "Europe/Berlin", "2026-03-29 00:00",
			[]string{
				"2026-03-29 03:00:00 +02:00", "2026-03-29 03:15:00 +02:00", "2026-03-29 03:30:00 +02:00", "2026-03-29 03:45:00 +02:00",
				"2026-03-30 02:00:00 +02:00",
			},
		},
		{
			"a pace goes on", "*/30 * * * *", "Europe/Berlin", "2026-03-29 01:00",
			[]string{"2026-03-29 01:30:00 +01:00", "2026-03-29 03:00:00 +02:00", "2026-03-29 03:30:00 +02:00"},
		},
		{
			"a time that comes twice counts once", "30 2 * * *", "Europe/Berlin", "2026-10-24 12:00",
			[]string{"2026-10-25 02:30:00 +02:00", "2026-10-26 02:30:00 +01:00"},
		},
		{
			"also asked between the two", "30 2 * * *", "Europe/Berlin", "2026-10-25 02:45",
			[]string{"2026-10-26 02:30:00 +01:00"},
		},
		{
			"a pace goes on through both", "*/30 * * * *", "Europe/Berlin", "2026-10-25 01:30",
			[]string{
				"2026-10-25 02:00:00 +02:00", "2026-10-25 02:30:00 +02:00", "2026-10-25 02:00:00 +01:00", "2026-10-25 02:30:00 +01:00",
				"2026-10-25 03:00:00 +01:00",
			},
		},
		{
			"every hour is each hour", "@hourly", "America/New_York", "2026-11-01 00:30",
			[]string{"2026-11-01 01:00:00 -04:00", "2026-11-01 01:00:00 -05:00", "2026-11-01 02:00:00 -05:00"},
		},
		{
			"quarters of a named hour are four", "*/15 2 * * *", "Europe/Berlin", "2026-10-25 01:00",
			[]string{
				"2026-10-25 02:00:00 +02:00", "2026-10-25 02:15:00 +02:00", "2026-10-25 02:30:00 +02:00", "2026-10-25 02:45:00 +02:00",
				"2026-10-26 02:00:00 +01:00",
			},
		},
		{
			"half an hour's change", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00",
			[]string{"2026-10-04 02:45:00 +11:00", "2026-10-05 02:15:00 +11:00"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, ticks(t, c.spec, c.zone, c.after, len(c.want))); diff != "" {
				t.Errorf("%s in %s after %s (-want +got):\n%s", c.spec, c.zone, c.after, diff)
			}
		})
	}
}

// Zones that change at midnight, at one and at two, by an hour and by half of one.
func TestADailyTimeComesOnceADayInEveryZone(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{
		"UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns", "America/Santiago", "Australia/Lord_Howe",
		"Africa/Casablanca", "Africa/Cairo", "Asia/Beirut", "Pacific/Chatham",
	} {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range []string{"0 0 * * *", "30 0 * * *", "30 1 * * *", "0 2 * * *", "30 2 * * *", "45 23 * * *"} {
			e, err := cron.Parse(spec, zone)
			if err != nil {
				t.Fatal(err)
			}
			at := time.Date(2025, 12, 31, 23, 50, 0, 0, loc)
			for day := 1; day <= 365; day++ {
				at = e.Next(at)
				if want := time.Date(2026, 1, day, 12, 0, 0, 0, loc); at.In(loc).YearDay() != want.YearDay() {
					t.Errorf("%s in %s: %s is followed by %s", spec, zone, want.AddDate(0, 0, -1).Format(time.DateOnly), at.In(loc).Format(shown))
					break
				}
			}
		}
	}
}

func TestTheLatestTicksAreFoundFromTheEnd(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		t.Helper()
		v, err := time.Parse(time.DateTime, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		spec, after, until string
		n                  int
		want               []string
	}{
		{"0 * * * *", "2026-01-01 00:00:00", "2026-01-01 03:00:00", 2, []string{"2026-01-01 02:00:00", "2026-01-01 03:00:00"}},
		{"0 * * * *", "2026-01-01 00:00:00", "2026-01-01 03:00:00", 9, []string{"2026-01-01 01:00:00", "2026-01-01 02:00:00", "2026-01-01 03:00:00"}},
		{"0 * * * *", "2026-01-01 02:30:00", "2026-01-01 02:59:59", 3, nil},
		{"0 * * * *", "2026-01-01 03:00:00", "2026-01-01 03:00:00", 3, nil},
		{"0 * * * *", "2026-01-01 04:00:00", "2026-01-01 03:00:00", 3, nil}, // a clock that was set back
		{"0 0 1 1 *", "1980-01-01 00:00:00", "2026-06-01 00:00:00", 1, []string{"2026-01-01 00:00:00"}},
		{"* * * * * *", "1980-01-01 00:00:00", "2026-06-01 00:00:00", 1, []string{"2026-06-01 00:00:00"}},
		{"@every 1h", "2026-01-01 00:00:00", "2026-01-01 03:30:00", 2, []string{"2026-01-01 02:00:00", "2026-01-01 03:00:00"}},
	} {
		e, err := cron.Parse(c.spec, "UTC")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, tick := range e.Latest(at(c.after), at(c.until), c.n) {
			got = append(got, tick.Format(time.DateTime))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s in (%s, %s] (-want +got):\n%s", c.spec, c.after, c.until, diff)
		}
	}
}

func TestWhatIsWrongIsToldWithItsColumn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ spec, zone, want string }{
		{"", "", "the expression is empty"},
		{"61 * * * *", "", `column 1, minute: end of range (61) above maximum (59)`},
		{"0  25 * * *", "", `column 4, hour: end of range (25)`},
		{"0 0 0 0 * *", "", `column 7, day of month: beginning of range (0)`},
		{"0 3 * SMARCH *", "", `column 7, month:`},
		{"0 3 * * 8", "", `column 9, day of week:`},
		{"*/0 * * * *", "", `column 1, minute: step of range`},
		{"0 3 * *", "", "there are 4 fields: want five"},
		{"0 0 3 * * * 2026", "", "there are 7 fields"},
		{" @reboot", "", `column 2: "@reboot": want @hourly`},
		{"@DAILY", "", `column 1: "@DAILY": want @hourly`},
		{"@every", "", "@every wants one duration"},
		{"@every 1h 2h", "", "@every wants one duration"},
		{"@every 0s", "", `column 8: "0s": want a duration of whole seconds`},
		{"@every 1.5s", "", `column 8: "1.5s"`},
		{"@every -1h", "", `column 8: "-1h"`},
		{"@every 1h", "Europe/Berlin", "an interval has no time zone"},
		{"CRON_TZ=UTC 0 3 * * *", "", "the zone is not part of the expression"},
		{"0 0 31 2 *", "", "it is never due"},
		{"0 3 * * *", "Europe/Berlim", `time zone "Europe/Berlim" is unknown here`},
		{"0 3 * * *", "../../etc/passwd", "is unknown here"},
		{"0 3 * * *", "Local", "differs between machines"},
		{"H * * * *", "", `column 1, minute:`},
		{strings.Repeat("0,", 200) + "0 * * * *", "", "use 256 at most"},
		{"0 3\x00 * * *", "", "column 3, hour:"},
	} {
		if _, err := cron.Parse(c.spec, c.zone); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q in %q: %v, want something with %q", c.spec, c.zone, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"0 3 * * *", "*/5 8-18 * * MON-FRI", "@every 90s", "@daily", "0 0 L * *", "0 0 15W * FRI#2", "5-1 * * * *", "0 0 29 2 *", "TZ=x 0", "? ? ? ? ?", "0 0 * * 7/2",
	} {
		f.Add(seed, "Europe/Berlin")
		f.Add(seed, "America/Sao_Paulo")
	}
	f.Fuzz(func(t *testing.T, spec, zone string) {
		e, err := cron.Parse(spec, zone)
		if err != nil {
			return
		}
		again, err := cron.Parse(e.String(), e.Zone())
		if err != nil {
			t.Fatalf("%q became %q, which is refused: %v", spec, e, err)
		}
		at := time.Date(2018, 11, 3, 22, 15, 0, 0, time.UTC)
		for range 50 {
			next := e.Next(at)
			if next.IsZero() {
				return // after the last year of a rare date
			}
			if !next.After(at) || !next.Equal(again.Next(at)) {
				t.Fatalf("%q in %q: after %s comes %s, or %s", spec, zone, at, next, again.Next(at))
			}
			if got := e.Latest(at, next, 1); len(got) != 1 || !got[0].Equal(next) {
				t.Fatalf("%q in %q: the latest in (%s, %s] is %v", spec, zone, at, next, got)
			}
			at = next
		}
	})
}
