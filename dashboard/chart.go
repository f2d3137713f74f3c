package dashboard

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Charts are shapes only, stretched to their place; words and numbers stand around them
// as text, in the size that text has. Colours are the style sheet's.

// bars draws what ended in each step of a span: completed below, failed above it.
func bars(h *history, s *series) node {
	const high = 100.0
	most := 1.0
	for i := range s.buckets {
		most = max(most, ended(&s.buckets[i]))
	}
	most = roundUp(most)
	var shapes list
	for i := range s.buckets {
		b := &s.buckets[i]
		if ended(b) == 0 {
			continue
		}
		good, bad := float64(b.Completed+b.Others)/most*high, float64(b.Failed)/most*high
		at := h.from.Add(time.Duration(i) * h.step)
		shapes = append(shapes, el("g",
			el("title", textf("%s: %s completed, %s failed", at.Format("15:04"), grouped(b.Completed), grouped(b.Failed))),
			rect("good", float64(i)+.1, high-good, .8, good),
			rect("bad", float64(i)+.1, high-good-bad, .8, bad)))
	}
	label := fmt.Sprintf("%s completed and %s failed in the last %s; at most %s in %s",
		grouped(s.sum.Completed), grouped(s.sum.Failed), h.name, grouped(int64(most)), wordOf(h.step))
	return el("figure", class("chart"),
		el("div", class("scale"), attr{"aria-hidden", "true"}, el("span", text(grouped(int64(most)))), el("span", text("0"))),
		el("svg", attr{"viewBox", fmt.Sprintf("0 0 %d %g", len(s.buckets), high)}, attr{"preserveAspectRatio", "none"},
			attr{"role", "img"}, attr{"aria-label", label}, shapes),
		el("figcaption", class("ends"), el("time", text(h.from.Format("15:04")+" UTC")), el("span", text("a bar is "+wordOf(h.step))), el("span", text("now"))),
	)
}

func wordOf(d time.Duration) string {
	if d == time.Minute {
		return "a minute"
	}
	return fmt.Sprintf("%d minutes", int(d/time.Minute))
}

// roundUp is the next number whose first digit is 1, 2 or 5 and whose others are 0.
func roundUp(x float64) float64 {
	ten := math.Pow(10, math.Floor(math.Log10(max(x, 1))))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*ten >= x {
			return m * ten
		}
	}
	return x
}

func rect(look string, x, y, w, h float64) part {
	if h <= 0 || w <= 0 {
		return list(nil)
	}
	return el("rect", class(look), num("x", x), num("y", y), num("width", w), num("height", h))
}

func num(name string, v float64) attr {
	return attr{name, strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")}
}

// spark draws a line of numbers, from nothing up to the greatest of them.
func spark(label string, values []float64) node {
	const high = 20.0
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	var path strings.Builder
	pen := "M"
	for i, v := range values {
		if most == 0 {
			break
		}
		fmt.Fprintf(&path, "%s%d %.1f", pen, i, high-1-v/most*(high-2))
		pen = "L"
	}
	return el("svg", class("spark"), attr{"viewBox", fmt.Sprintf("0 0 %d %g", max(len(values)-1, 1), high)}, attr{"preserveAspectRatio", "none"},
		attr{"role", "img"}, attr{"aria-label", label}, el("path", attr{"d", path.String()}))
}

// spans lets choose how much time charts show.
func (p *request) spans(path string) node {
	var links list
	for i, s := range ranges {
		current := list(nil)
		if i == p.chosen() {
			current = list{attr{"aria-current", "true"}}
		}
		links = append(links, el("a", p.to(path, "span", s.name), current, text(s.name)))
	}
	return el("p", class("tabs"), attr{"aria-label", "Time shown"}, links)
}
