package cli

import (
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
)

func TestAgesAreReadInDaysAndWeeksToo(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "7d": 7 * 24 * time.Hour, "2w": 14 * 24 * time.Hour, "1w2d": 9 * 24 * time.Hour, "1d12h": 36 * time.Hour, "1.5h": 90 * time.Minute,
	} {
		if got, err := parseAge(text); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "7", "d", "-1d", "1d-12h2d", "2d1w", "7 d", "99999999d", "never", "soon"} {
		if got, err := parseAge(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
	a := age{never: true}
	if err := a.Set("never"); err != nil || a.d != sequencer.KeepForever || a.String() != "never" {
		t.Errorf("never: %v, %s", err, a.String())
	}
	for _, text := range []string{"0s", "-1h"} {
		if err := a.Set(text); err == nil {
			t.Errorf("%s is an age", text)
		}
	}
}

func TestMomentsAreReadAsAgesOrDatesInUTC(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-01-02": "2026-01-02T00:00:00Z", "2026-01-02 03:04": "2026-01-02T03:04:00Z", "2026-01-02 03:04:05": "2026-01-02T03:04:05Z",
		"2026-01-02T03:04:05Z": "2026-01-02T03:04:05Z", "2026-01-02T03:04:05+02:00": "2026-01-02T01:04:05Z",
	} {
		var m moment
		if err := m.Set(text); err != nil || m.String() != want {
			t.Errorf("%s: %s, %v; want %s", text, m.String(), err, want)
		}
	}
	var m moment
	if err := m.Set("2h"); err != nil || time.Since(m.at).Round(time.Minute) != 2*time.Hour {
		t.Errorf("2h is %s, %v", m.String(), err)
	}
	if err := m.Set("tomorrow"); err == nil {
		t.Error("tomorrow is a time")
	}
}
