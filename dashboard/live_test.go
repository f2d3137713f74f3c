package dashboard_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/internal/showcase"
)

// stream is what a browser hears of changes.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	parts map[string]string // the latest of each
}

func (v *visit) stream(path string) *stream {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), time.Minute)
	v.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, v.server.URL+v.prefix+"/live?at="+url.QueryEscape(path), nil)
	if err != nil {
		v.t.Fatal(err)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { answer.Body.Close() })
	if got := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || got != "text/event-stream" {
		v.t.Fatalf("%s, %s", answer.Status, got)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return &stream{v.t, lines, map[string]string{}}
}

// next is the next part that is sent.
func (s *stream) next() string {
	s.t.Helper()
	for s.lines.Scan() {
		data, ok := strings.CutPrefix(s.lines.Text(), "data: ")
		if !ok {
			continue
		}
		var part struct{ ID, HTML string }
		if err := json.Unmarshal([]byte(data), &part); err != nil {
			s.t.Fatal(err)
		}
		s.parts[part.ID] = part.HTML
		return part.ID
	}
	s.t.Fatalf("the stream ended: %v", s.lines.Err())
	return ""
}

func TestWhatChangesIsSentToWhoLooks(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Prefix: "/ops", Refresh: 100 * time.Millisecond})
	s := v.stream("/executions?state=completed")
	for s.parts["strip"] == "" || s.parts["executions"] == "" {
		s.next()
	}
	if html := s.parts["executions"]; !strings.HasPrefix(html, `<div id="executions" data-fragment="">`) || !strings.Contains(html, `href="/ops/executions/`) || strings.Contains(html, showcase.Markup) {
		t.Errorf("got %.400s", html)
	}
	link := regexp.MustCompile(`href="/ops/executions/[0-9a-f-]{36}"`)
	before := link.FindAllString(s.parts["executions"], -1)
	v.More(3)
	for fresh := 0; fresh < 3; { // how old the others are changes too
		s.next()
		fresh = 0
		for _, id := range link.FindAllString(s.parts["executions"], -1) {
			if !slices.Contains(before, id) {
				fresh++
			}
		}
	}
}

func TestEveryPageHasPartsThatAreSent(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Refresh: 100 * time.Millisecond, Allow: dashboard.Actions()})
	for _, path := range v.pages() {
		s := v.stream(path)
		for len(s.parts) < 2 {
			s.next()
		}
		whole := v.page(path)
		for id := range s.parts {
			if strings.Count(whole, ` id="`+id+`"`) != 1 {
				t.Errorf("%s: the part %s has no place of its own on the page", path, id)
			}
		}
	}
}

func TestAStreamIsOfAPageOfThisDashboard(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{})
	for _, at := range []string{"", "executions", "https://evil.example.test/", "/live?at=/", "//evil.example.test/x"} {
		if answer, _ := v.ask(http.MethodGet, "/live?at="+url.QueryEscape(at), nil); answer.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %s", at, answer.Status)
		}
	}
}
