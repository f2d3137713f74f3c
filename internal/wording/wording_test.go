package wording_test

import (
	"testing"
	"time"

	"github.com/gosequencer/sequencer/internal/wording"
)

func TestAgesAreShownInTwoUnitsAtMost(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "", 400 * time.Millisecond: "0s", 59 * time.Second: "59s", 10 * time.Minute: "10m", 61*time.Minute + 3*time.Second: "1h1m", 20 * time.Hour: "20h",
		24 * time.Hour: "1d", 50 * time.Hour: "2d2h", 49*time.Hour + 10*time.Minute: "2d1h",
	} {
		if got := wording.Roughly(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
