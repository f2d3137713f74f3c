package browsertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// until waits for an expression to be true on the page.
func (s *screen) until(expression string) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	for !asked[bool](s, expression) {
		select {
		case <-tick.C:
		case <-late.C:
			s.t.Fatalf("it did not become so in 20 seconds: %s", expression)
		}
	}
}

const newest = `document.querySelectorAll("#executions tbody tr").length`

func TestWhatChangesArrivesByItself(t *testing.T) {
	onBackends(t, func(t *testing.T, s *screen) {
		const path = "/executions?state=completed&name=import_release"
		s.visit(path)
		s.until(`document.getElementById("live").textContent === "Live"`)
		s.must(chromedp.Do(s.ctx, chromedp.Evaluate[chromedp.Void](`window.stayed = true; undefined`)))
		before := asked[int](s, newest)
		s.More(3)
		s.until(fmt.Sprintf("%s === %d", newest, before+3))
		if !asked[bool](s, "window.stayed === true") {
			t.Error("the page was loaded anew")
		}

		// Paused, it stays as it is; resumed, it catches up.
		s.click("#live")
		s.until(`document.getElementById("live").textContent === "Paused"`)
		s.More(2)
		time.Sleep(time.Second) // sleep: that nothing arrives takes time to see
		if got := asked[int](s, newest); got != before+3 {
			t.Errorf("paused, and it went from %d rows to %d", before+3, got)
		}
		s.click("#live")
		s.until(fmt.Sprintf("%s === %d", newest, before+5))

		// What somebody is writing is not taken from them.
		s.visit("/executions/" + s.Failed)
		s.until(`document.getElementById("live").textContent === "Live"`)
		s.click(`details:has(form) > summary`)
		s.until(`document.querySelector("details:has(form)").open`)
		s.must(chromedp.Do(s.ctx, chromedp.SendKeys(chromedp.CSS(`details[open] input[name=reason]`), "half a rea")))
		time.Sleep(time.Second) // sleep: that nothing is replaced takes time to see
		if got := asked[string](s, `document.querySelector("details[open] input[name=reason]").value`); got != "half a rea" {
			t.Errorf("what was being written is %q", got)
		}
		s.clean()
	})
}

func TestTheKeyboardReachesEverything(t *testing.T) {
	onBackends(t, func(t *testing.T, s *screen) {
		s.visit("/executions/" + s.Failed)
		if asked[string](s, `(() => { const a = document.querySelector(".skip"); a.focus(); return getComputedStyle(a).left })()`) == "-1600px" {
			t.Error("the link that skips to the content stays out of sight")
		}
		unnamed := asked[int](s, `[...document.querySelectorAll("input:not([type=hidden]), select")].filter(i => !i.closest("label")).length`)
		if unnamed != 0 {
			t.Errorf("%d fields have no label", unnamed)
		}
		s.must(chromedp.Do(s.ctx, chromedp.Evaluate[chromedp.Void](`document.querySelector("details.action > summary").click(); undefined`)))
		s.until(`document.activeElement.name === "reason"`)
		s.must(chromedp.Do(s.ctx, chromedp.KeyEvent("\x1b")))
		s.until(`document.querySelector("details.action[open]") === null && document.activeElement.tagName === "SUMMARY"`)
		s.clean()
	})
}
