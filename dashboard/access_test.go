package dashboard_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/storage"
)

// orders is a form for each action that there is, with something it could do.
func (v *visit) orders() map[dashboard.Action]url.Values {
	return map[dashboard.Action]url.Values{
		dashboard.Retry:       {"target": {v.Failed}},
		dashboard.Cancel:      {"target": {v.Waiting}},
		dashboard.Forget:      {"target": {v.Failed}},
		dashboard.Resolve:     {"target": {v.Failed}, "kind": {"completed"}},
		dashboard.RetryAll:    {"name": {"send_mail"}},
		dashboard.CancelAll:   {"name": {"send_mail"}},
		dashboard.ForgetAll:   {"name": {"send_mail"}},
		dashboard.Pause:       {"target": {"default"}, "kind": {"queue"}},
		dashboard.Resume:      {"target": {"mail"}, "kind": {"queue"}},
		dashboard.RunSchedule: {"target": {"hourly_digest"}},
		dashboard.CancelFlow:  {"target": {v.Open}},
		dashboard.RetryFlow:   {"target": {v.Batch}},
		dashboard.Unlock:      {"target": {"run"}},
		dashboard.Approve:     {"target": {v.Approval}},
		dashboard.Reject:      {"target": {v.Refund}},
	}
}

// order sends one.
func (v *visit) order(a dashboard.Action) (*http.Response, string) {
	v.t.Helper()
	form := v.orders()[a]
	if form == nil {
		v.t.Fatalf("no test has an order for %s", a)
	}
	form.Set("action", string(a))
	form.Set("reason", "a test")
	form.Set("back", v.prefix+"/queues")
	return v.ask(http.MethodPost, "/act", form)
}

// refused fails unless every action is, and none of them is in the audit log.
func (v *visit) refused(why string, status int) {
	v.t.Helper()
	before := len(v.audit())
	for _, a := range dashboard.Actions() {
		if answer, body := v.order(a); answer.StatusCode != status {
			v.t.Errorf("%s: %s: got %s, want %d\n%.300s", why, a, answer.Status, status, body)
		}
	}
	if after := v.audit(); len(after) != before {
		v.t.Errorf("%s: something was done: %+v", why, after[0])
	}
	if st := v.State(v.Failed); st != storage.Failed {
		v.t.Errorf("%s: what failed is %s", why, st)
	}
	if st := v.State(v.Approval); st != storage.Pending {
		v.t.Errorf("%s: what waits for an answer is %s", why, st)
	}
}

func (v *visit) audit() []storage.AuditEntry {
	v.t.Helper()
	all, err := v.Store().Audit(v.t.Context(), storage.AuditFilter{Limit: 1000})
	if err != nil {
		v.t.Fatal(err)
	}
	return all
}

func TestADashboardIsClosedToOtherMachinesByDefault(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Allow: dashboard.Actions()})
	v.page("/") // as 127.0.0.1
	for name, header := range map[string]http.Header{
		"by another name":   {"Host": {"dashboard.example.test"}}, // a name of a stranger's that leads here
		"through a proxy":   {"X-Forwarded-For": {"127.0.0.1"}},
		"through another":   {"Forwarded": {"for=127.0.0.1"}},
		"through a cleaner": {"Via": {"1.1 cache"}},
		"a proxy's host":    {"X-Forwarded-Host": {"ops.example.test"}},
		"a proxy's scheme":  {"X-Forwarded-Proto": {"https"}},
		"a proxy's server":  {"X-Forwarded-Server": {""}},
		"a proxy's client":  {"X-Real-Ip": {"127.0.0.1"}},
		"another's client":  {"X-Client-Ip": {"127.0.0.1"}},
		"a cloud's client":  {"Cf-Connecting-Ip": {"192.0.2.1"}},
		"a network's":       {"True-Client-Ip": {"192.0.2.1"}},
		"from another page": {"Referer": {"https://ops.example.test/queues"}},
		"of another origin": {"Origin": {"https://ops.example.test"}},
		"of no origin":      {"Origin": {"null"}},
	} {
		v.header = header
		if answer, body := v.ask(http.MethodGet, "/", nil); answer.StatusCode != http.StatusForbidden || !strings.Contains(body, "Options.Check") {
			t.Errorf("%s: %s %.100s", name, answer.Status, body)
		}
		v.refused(name, http.StatusForbidden)
	}
	for name, header := range map[string]http.Header{
		"a link of its own":  {"Referer": {v.server.URL + "/queues"}},
		"a page of this one": {"Referer": {"http://localhost:3000/"}, "Origin": {"http://[::1]:3000"}},
	} {
		v.header = header
		if answer, _ := v.ask(http.MethodGet, "/", nil); answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", name, answer.Status)
		}
	}
}

func TestWithoutCredentialsNothingIsShownOrDone(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Credentials: map[string]string{"ada": "correct horse"}, Allow: dashboard.Actions()})
	for name, header := range map[string]http.Header{
		"none":           {},
		"wrong password": {"Authorization": {basic("ada", "horse")}},
		"no password":    {"Authorization": {basic("ada", "")}},
		"somebody else":  {"Authorization": {basic("eve", "")}},
	} {
		v.header = header
		for _, path := range append(v.pages(), "/live?at=/", "/static/style.css") {
			if answer, body := v.ask(http.MethodGet, path, nil); answer.StatusCode != http.StatusUnauthorized || strings.Contains(body, "send_mail") {
				t.Errorf("%s: %s: %s", name, path, answer.Status)
			}
		}
		v.refused(name, http.StatusUnauthorized)
	}
	v.header = http.Header{"Authorization": {basic("ada", "correct horse")}}
	v.page("/")
	if answer, body := v.order(dashboard.Resume); answer.StatusCode != http.StatusSeeOther {
		t.Errorf("ada may: %s %s", answer.Status, body)
	}
	if last := v.audit()[0]; last.Actor != "ada" || last.Reason != "a test" || last.Action != string(storage.ActResume) {
		t.Errorf("the audit log has %+v", last)
	}
}

func basic(name, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(name, password)
	return r.Header.Get("Authorization")
}

func TestTheApplicationsOwnCheckDecidesWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{
		Prefix: "/ops",
		Check: func(r *http.Request) (dashboard.Person, bool) {
			who := r.Header.Get("X-User")
			return dashboard.Person{Name: who, May: func(a dashboard.Action) bool { return who == "ada" || a == dashboard.Pause }}, who != ""
		},
		Allow: []dashboard.Action{dashboard.Pause, dashboard.Resume},
	})
	v.refused("nobody", http.StatusForbidden)
	v.header = http.Header{"X-User": {"grace"}}
	if answer, _ := v.order(dashboard.Resume); answer.StatusCode != http.StatusForbidden {
		t.Errorf("grace resumes: %s", answer.Status)
	}
	if answer, _ := v.order(dashboard.Pause); answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Location") != "/ops/queues" {
		t.Errorf("grace pauses: %s to %s", answer.Status, answer.Header.Get("Location"))
	}
	if body := v.page("/queues"); strings.Contains(body, `value="resume"`) {
		t.Error("grace is offered to resume")
	}
	v.header = http.Header{"X-User": {"ada"}}
	if body := v.page("/queues"); !strings.Contains(body, `value="resume"`) {
		t.Error("ada is not offered to resume")
	}
	if answer, _ := v.order(dashboard.Retry); answer.StatusCode != http.StatusForbidden {
		t.Errorf("ada retries, which nobody may: %s", answer.Status)
	}
}

func TestItIsReadOnlyUnlessActionsAreAllowed(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{})
	v.refused("read-only", http.StatusForbidden)
	for _, path := range v.pages() {
		if strings.Contains(v.page(path), `method="post"`) {
			t.Errorf("%s offers something", path)
		}
	}
	if answer, _ := v.ask(http.MethodGet, "/bulk?do=retry-all&state=failed", nil); answer.StatusCode != http.StatusNotFound {
		t.Errorf("a preview of what may not be done: %s", answer.Status)
	}
}

func TestRequestsOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Allow: dashboard.Actions()})
	for name, header := range map[string]http.Header{
		"cross-site":          {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example.test"}},
		"same-site":           {"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://other.example.test"}},
		"another origin":      {"Sec-Fetch-Site": nil, "Origin": {"https://evil.example.test"}},
		"an origin of nobody": {"Sec-Fetch-Site": nil, "Origin": {"null"}},
		"no origin at all":    {"Sec-Fetch-Site": nil, "Origin": nil},
	} {
		v.header = header
		v.refused(name, http.StatusForbidden)
	}
	v.header = http.Header{}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodGet} {
		if answer, _ := v.ask(method, "/act?action=pause&kind=queue&target=default", nil); answer.StatusCode < 400 {
			t.Errorf("%s of an action: %s", method, answer.Status)
		}
	}
}

func TestAnswersForbidWhatAPageNeverNeeds(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{})
	for _, path := range []string{"/", "/nowhere", "/static/live.js"} {
		answer, _ := v.ask(http.MethodGet, path, nil)
		policy := answer.Header.Get("Content-Security-Policy")
		for _, must := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, must) {
				t.Errorf("%s: the policy lacks %s: %s", path, must, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || answer.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, answer.Header)
		}
	}
}

func TestAnActionLeadsBackIntoTheDashboardOnly(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Prefix: "/ops", Allow: dashboard.Actions()})
	for back, want := range map[string]string{
		"/ops/queues?x=1":           "/ops/queues?x=1",
		"https://evil.example.test": "/ops/",
		"//evil.example.test/ops/":  "/ops/",
		`/ops/\evil`:                "/ops/",
		"/elsewhere":                "/ops/",
		"javascript:alert(1)":       "/ops/",
		"":                          "/ops/",
	} {
		answer, _ := v.ask(http.MethodPost, "/act", url.Values{"action": {"pause"}, "kind": {"queue"}, "target": {"default"}, "back": {back}})
		if got := answer.Header.Get("Location"); answer.StatusCode != http.StatusSeeOther || got != want {
			t.Errorf("%q leads to %q (%s), want %q", back, got, answer.Status, want)
		}
	}
}
