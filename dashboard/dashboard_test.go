package dashboard_test

import (
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/internal/showcase"
	"github.com/gosequencer/sequencer/storage/memory"
)

// visit is a browser's view of a dashboard, without a browser.
type visit struct {
	*showcase.Show

	t      *testing.T
	server *httptest.Server
	prefix string
	header http.Header // of each request
}

func open(t *testing.T, o dashboard.Options) *visit {
	t.Helper()
	return openOn(t, showcase.Open(t, memory.New(), nil, nil), o)
}

func openOn(t *testing.T, show *showcase.Show, o dashboard.Options) *visit {
	t.Helper()
	h, err := dashboard.New(show.Sequencer, o)
	if err != nil {
		t.Fatal(err)
	}
	v := &visit{Show: show, t: t, server: httptest.NewServer(h), prefix: o.Prefix, header: http.Header{}}
	t.Cleanup(v.server.Close)
	return v
}

// ask sends a request and does not follow where the answer leads.
func (v *visit) ask(method, path string, form url.Values) (*http.Response, string) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.server.URL+v.prefix+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", v.server.URL)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for name, values := range v.header {
		r.Header[name] = values
	}
	if host := v.header.Get("Host"); host != "" {
		r.Host = host
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return answer, string(body)
}

// page is one that is there.
func (v *visit) page(path string) string {
	v.t.Helper()
	answer, body := v.ask(http.MethodGet, path, nil)
	if answer.StatusCode != http.StatusOK {
		v.t.Fatalf("GET %s: %s\n%.500s", path, answer.Status, body)
	}
	return body
}

// pages are all there are.
func (v *visit) pages() []string {
	return []string{
		"/", "/?span=24h", "/deploys", "/deploys/" + v.Run, "/operations", "/operations/import_release", "/executions",
		"/executions?state=failed&name=import*&age=1h", "/executions?queue=mail", "/executions?tag=imports", "/executions?id=" + v.Failed[:13],
		"/executions/" + v.Failed, "/executions/" + v.Waiting, "/executions/" + v.Running, "/executions/" + v.Scheduled,
		"/approvals", "/executions/" + v.Refund, "/executions/" + v.Approval,
		"/flows", "/flows?open=yes", "/flows/" + v.Batch, "/flows/" + v.Chain, "/flows/" + v.Open, "/flows/" + v.Run,
		"/failures", "/queues", "/schedules", "/workers", "/limits", "/audit", "/audit?target=mail",
	}
}

// Every link of every page leads to a page that is there.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Prefix: "/ops", Allow: dashboard.Actions()})
	if err := v.cancelled(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, path := range v.pages() {
		for _, after := range strings.Split(v.page(path), `href="/ops`)[1:] {
			to, _, _ := strings.Cut(after, `"`)
			if to = html.UnescapeString(to); seen[to] {
				continue
			}
			seen[to] = true
			if answer, _ := v.ask(http.MethodGet, to, nil); answer.StatusCode != http.StatusOK {
				t.Errorf("%s leads to %s: %s", path, to, answer.Status)
			}
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d links were found", len(seen))
	}
}

// cancelled stops a flow, so that one stands in the audit log.
func (v *visit) cancelled() error {
	f, err := v.Sequencer.Flow(v.t.Context(), v.Open)
	if err != nil {
		return err
	}
	return f.Cancel(v.t.Context(), "not needed")
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	show := showcase.Open(t, memory.New(), nil, nil)
	for name, o := range map[string]dashboard.Options{
		"prefix":      {Prefix: "admin"},
		"two doors":   {Credentials: map[string]string{"a": "b"}, Check: func(*http.Request) (dashboard.Person, bool) { return dashboard.Person{}, true }},
		"nobody":      {Credentials: map[string]string{}},
		"no password": {Credentials: map[string]string{"a": ""}},
		"action":      {Allow: []dashboard.Action{"destroy"}},
		"refresh":     {Refresh: 1},
	} {
		if _, err := dashboard.New(show.Sequencer, o); err == nil || !strings.Contains(err.Error(), "options") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := dashboard.New(nil, dashboard.Options{}); err == nil {
		t.Error("nil is a sequencer")
	}
}

func TestEveryPageIsMadeUnderAnyPrefix(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "/admin/sequencer"} {
		v := open(t, dashboard.Options{Prefix: prefix, Allow: dashboard.Actions()})
		for _, path := range v.pages() {
			body := v.page(path)
			for _, must := range []string{"<h1>", `<main id="content"`, `href="` + prefix + `/queues"`, `class="skip"`, `aria-current="page"`} {
				if !strings.Contains(body, must) {
					t.Errorf("%s%s lacks %s", prefix, path, must)
				}
			}
			if strings.Contains(body, showcase.Markup) || strings.Contains(body, "<img") {
				t.Errorf("%s%s has markup of a payload as markup", prefix, path)
			}
			for _, bad := range []string{" style=", "<style", "javascript:", "http://", "https://", "onclick", "%!"} {
				if strings.Contains(strings.ReplaceAll(body, "http://127.0.0.1", ""), bad) {
					t.Errorf("%s%s has %q, which its policy forbids", prefix, path, bad)
				}
			}
		}
		if answer, _ := v.ask(http.MethodGet, "/nowhere", nil); answer.StatusCode != http.StatusNotFound {
			t.Errorf("a page that is not there: %s", answer.Status)
		}
		if answer, _ := v.ask(http.MethodGet, "/executions/019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b", nil); answer.StatusCode != http.StatusNotFound {
			t.Errorf("an execution that is not there: %s", answer.Status)
		}
	}
}
