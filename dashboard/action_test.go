package dashboard_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/internal/showcase"
	"github.com/gosequencer/sequencer/storage"
)

// done sends an order, follows it, and returns what is said there.
func (v *visit) done(a dashboard.Action, form url.Values) string {
	v.t.Helper()
	form.Set("action", string(a))
	if form.Get("reason") == "" {
		form.Set("reason", "why not "+showcase.Markup)
	}
	form.Set("back", v.prefix+"/queues")
	answer, body := v.ask(http.MethodPost, "/act", form)
	if answer.StatusCode != http.StatusSeeOther {
		v.t.Fatalf("%s: %s %s", a, answer.Status, body)
	}
	cookie, _, _ := strings.Cut(answer.Header.Get("Set-Cookie"), ";")
	v.header = http.Header{"Cookie": {cookie}}
	defer func() { v.header = http.Header{} }()
	answer, body = v.ask(http.MethodGet, "/queues", nil)
	if !strings.Contains(answer.Header.Get("Set-Cookie"), "Max-Age=0") {
		v.t.Errorf("%s: what was done would be told again: %q", a, answer.Header.Get("Set-Cookie"))
	}
	_, said, _ := strings.Cut(body, `class="notice `)
	said, _, _ = strings.Cut(said, "</p>")
	return said
}

// logged fails unless the newest entry of the audit log is this one.
func (v *visit) logged(action storage.Action, target string, count int) {
	v.t.Helper()
	got := v.audit()[0]
	if got.Action != string(action) || !strings.Contains(got.Target, target) || got.Count != count || !strings.HasPrefix(got.Reason, "why not") || got.Actor != "deployer@build-7" {
		v.t.Errorf("the audit log has %+v, want %s of %s, %d", got, action, target, count)
	}
}

func TestEveryActionIsCarriedOutWithActorAndReason(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Allow: dashboard.Actions()})

	// Of one execution.
	if said := v.done(dashboard.Retry, url.Values{"target": {v.Failed}}); !strings.HasPrefix(said, "good") {
		t.Errorf("retry: %s", said)
	}
	v.logged(storage.ActRetry, v.Failed, 1)
	if st := v.State(v.Failed); st != storage.Pending {
		t.Errorf("retried, and it is %s", st)
	}
	if said := v.done(dashboard.Cancel, url.Values{"target": {v.Waiting}}); !strings.HasPrefix(said, "good") || v.State(v.Waiting) != storage.Cancelled {
		t.Errorf("cancel: %s, %s", v.State(v.Waiting), said)
	}
	v.logged(storage.ActCancel, v.Waiting, 1)
	if said := v.done(dashboard.Forget, url.Values{"target": {v.Waiting}}); !strings.HasPrefix(said, "good") || v.State(v.Waiting) != "" {
		t.Errorf("forget: %s", said)
	}
	v.logged(storage.ActForget, v.Waiting, 1)
	if said := v.done(dashboard.Resolve, url.Values{"target": {v.Failed}, "kind": {"completed"}}); !strings.HasPrefix(said, "bad") {
		t.Errorf("what waits was resolved: %s", said)
	}
	if said := v.done(dashboard.Resolve, url.Values{"target": {v.Failed}, "kind": {"maybe"}}); !strings.HasPrefix(said, "bad") {
		t.Errorf("resolved as maybe: %s", said)
	}

	// Of all that match.
	if said := v.done(dashboard.CancelAll, url.Values{"name": {"send_mail"}, "queue": {"mail"}}); !strings.HasPrefix(said, "good") {
		t.Errorf("cancel all: %s", said)
	}
	v.logged(storage.ActCancel, "unfinished name=send_mail queue=mail", 3)
	failed := len(v.failed(sequencer.Selection{Name: "import_release"}))
	if failed < 2 {
		t.Fatalf("%d imports failed, want several", failed)
	}
	if said := v.done(dashboard.ForgetAll, url.Values{"name": {"import_release"}, "group": {"none"}}); !strings.Contains(said, "0 executions forgotten") {
		t.Errorf("forget all of no group: %s", said)
	}
	if said := v.done(dashboard.ForgetAll, url.Values{"name": {"import_release"}, "age": {"15m"}}); !strings.HasPrefix(said, "good") {
		t.Errorf("forget all: %s", said)
	}
	v.logged(storage.ActForget, "failed name=import_release since=", failed)
	if said := v.done(dashboard.RetryAll, url.Values{"all": {"yes"}}); !strings.HasPrefix(said, "good") {
		t.Errorf("retry all: %s", said)
	}

	// Of queues, operations and schedules.
	for _, kind := range []storage.PauseKind{storage.PauseQueue, storage.PauseOperation, storage.PauseSchedule} {
		form := url.Values{"kind": {string(kind)}, "target": {"nightly_import"}}
		if said := v.done(dashboard.Pause, form); !strings.HasPrefix(said, "good") {
			t.Errorf("pause a %s: %s", kind, said)
		}
		v.logged(storage.ActPause, string(kind)+" nightly_import", 1)
		if said := v.done(dashboard.Resume, form); !strings.HasPrefix(said, "good") {
			t.Errorf("resume a %s: %s", kind, said)
		}
		v.logged(storage.ActResume, string(kind)+" nightly_import", 1)
	}
	if said := v.done(dashboard.RunSchedule, url.Values{"target": {"nightly_import"}}); !strings.Contains(said, "Queued as") {
		t.Errorf("run: %s", said)
	}
	v.logged(storage.AuditRunSchedule, "schedule nightly_import", 1)
	if said := v.done(dashboard.RunSchedule, url.Values{"target": {"weekly"}}); !strings.HasPrefix(said, "bad") {
		t.Errorf("run what there is not: %s", said)
	}

	// Of flows, and of the lock.
	if said := v.done(dashboard.RetryFlow, url.Values{"target": {v.Batch}}); !strings.HasPrefix(said, "bad") {
		t.Errorf("retry of a flow whose failed member was forgotten: %s", said)
	}
	more := v.more()
	if said := v.done(dashboard.CancelFlow, url.Values{"target": {more.ID()}}); !strings.HasPrefix(said, "good") {
		t.Errorf("cancel a flow: %s", said)
	}
	st, err := more.Status(t.Context())
	if err != nil || st.State != storage.Cancelled || !strings.Contains(st.Reason, "why not") {
		t.Errorf("the flow is %+v, %v", st, err)
	}
	v.logged(storage.AuditStopFlow, more.ID(), 1)
	if said := v.done(dashboard.Unlock, url.Values{"target": {"run"}}); !strings.Contains(said, "Nobody held") {
		t.Errorf("unlock: %s", said)
	}
}

func TestAFailedBatchIsRetried_Q5_29(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Allow: dashboard.Actions()})
	if said := v.done(dashboard.RetryFlow, url.Values{"target": {v.Batch}}); !strings.HasPrefix(said, "good") {
		t.Errorf("retry a flow: %s", said)
	}
	v.logged(storage.ActResumeFlow, "", 1)
}

func (v *visit) more() *sequencer.Flow {
	v.t.Helper()
	mail := func(to string) sequencer.Operation {
		return sequencer.Named("send_mail", map[string]string{"to": to, "subject": "more"})
	}
	f, err := v.Sequencer.Batch(mail("a"), mail("b")).Dispatch(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	return f
}

func (v *visit) failed(sel sequencer.Selection) []storage.Execution {
	v.t.Helper()
	rows, err := v.Sequencer.Failed(v.t.Context(), sel)
	if err != nil {
		v.t.Fatal(err)
	}
	return rows
}

func TestAPreviewCountsWhatAnActionConcerns(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Allow: dashboard.Actions()})
	n := len(v.failed(sequencer.Selection{Name: "import_release"}))
	body := v.page("/bulk?do=retry-all&state=failed&name=import_release&age=1h")
	for _, must := range []string{"<strong>" + strconv.Itoa(n) + "</strong>", `name="reason"`, `value="retry-all"`, `name="age" value="20`, "import_release"} {
		if !strings.Contains(body, must) {
			t.Errorf("the preview lacks %s", must)
		}
	}
	if body := v.page("/executions?state=failed&name=import_release"); !strings.Contains(body, "do=retry-all") || strings.Contains(body, "do=cancel-all") {
		t.Error("a list of what failed offers to retry it, and nothing to cancel")
	}
	if body := v.page("/executions?state=pending"); !strings.Contains(body, "do=cancel-all") {
		t.Error("a list of what waits offers to cancel it")
	}
}

func TestCancelAllConcernsTheStateOfTheListItStartsFrom(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Allow: dashboard.Actions()})
	if body := v.page("/bulk?do=cancel-all&state=pending"); !strings.Contains(body, "executions that are pending match") || !strings.Contains(body, `name="state" value="pending"`) {
		t.Error("the preview does not say that it is of what waits")
	}
	if body := v.page("/bulk?do=cancel-all"); !strings.Contains(body, "executions that are pending or running match") {
		t.Error("the preview does not say that it is of all that is not over")
	}
	if answer, _ := v.ask(http.MethodGet, "/bulk?do=cancel-all&state=failed", nil); answer.StatusCode != http.StatusNotFound {
		t.Errorf("a preview of cancelling what failed: %s", answer.Status)
	}
	waiting, err := v.Sequencer.Unfinished(t.Context(), sequencer.Selection{States: []storage.State{storage.Pending}})
	if err != nil || len(waiting) == 0 {
		t.Fatalf("%d wait, %v", len(waiting), err)
	}
	if said := v.done(dashboard.CancelAll, url.Values{"state": {"pending"}, "all": {"yes"}}); !strings.HasPrefix(said, "good") {
		t.Errorf("cancel all: %s", said)
	}
	v.logged(storage.ActCancel, "unfinished state=pending", len(waiting))
	if st := v.State(v.Running); st != storage.Running {
		t.Errorf("what ran is %s", st)
	}
}

func TestAFilterThatCannotBeReadIsRefusedNotLeftOut(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Allow: dashboard.Actions()})
	before := len(v.audit())
	for name, form := range map[string]url.Values{
		"age":           {"name": {"send_mail"}, "age": {"2 days"}},
		"state":         {"name": {"send_mail"}, "state": {"failing"}},
		"age and all":   {"age": {"yesterday"}, "all": {"yes"}},
		"state and all": {"state": {"waiting"}, "all": {"yes"}},
		"nothing":       {},
		"a state alone": {"state": {"failed"}},
	} {
		for _, a := range []dashboard.Action{dashboard.RetryAll, dashboard.CancelAll, dashboard.ForgetAll} {
			form.Set("action", string(a))
			if answer, body := v.ask(http.MethodPost, "/act", form); answer.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %s: %s %s", name, a, answer.Status, body)
			}
			form.Del("action")
			if answer, _ := v.ask(http.MethodGet, "/bulk?do="+string(a)+"&"+form.Encode(), nil); form.Has("name") && answer.StatusCode != http.StatusBadRequest {
				t.Errorf("a preview: %s: %s: %s", name, a, answer.Status)
			}
		}
	}
	if n := len(v.audit()); n != before {
		t.Errorf("the audit log has %d entries more", n-before)
	}
	if body := v.page("/bulk?do=retry-all&state=failed"); !strings.Contains(body, `name="all" value="yes"`) {
		t.Error("the preview of all does not say that all are meant")
	}
	if body := v.page("/bulk?do=retry-all&state=failed&queue=default"); strings.Contains(body, `name="all" value="yes"`) {
		t.Error("the preview of some says that all are meant")
	}
}

func TestNothingIsDoneToMoreThanAListShows(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Allow: dashboard.Actions()})
	if body := v.page("/executions?state=failed&id=" + v.Failed[:13]); strings.Contains(body, "do=forget-all") {
		t.Error("a search for one execution offers to forget all")
	}
	if body := v.page("/executions?state=failed&tag=-imports"); strings.Contains(body, "do=forget-all") || !strings.Contains(body, "cannot be asked for") {
		t.Error("a list without a tag is shown as one with it")
	}
	if answer, _ := v.ask(http.MethodGet, "/bulk?do=forget-all&state=failed&tag=-imports", nil); answer.StatusCode != http.StatusBadRequest {
		t.Errorf("a preview of what is without a tag: %s", answer.Status)
	}
	before := len(v.audit())
	if answer, _ := v.ask(http.MethodPost, "/act", url.Values{"action": {"forget-all"}, "state": {"failed"}, "tag": {"-imports"}}); answer.StatusCode != http.StatusBadRequest {
		t.Errorf("an action on what is without a tag: %s", answer.Status)
	}
	if n := len(v.audit()); n != before {
		t.Errorf("the audit log has %d entries more", n-before)
	}
}

func TestWhatADeployHadIsNotRetriedInTheServersProcess(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Allow: dashboard.Actions()})
	rows, err := v.Store().Executions(t.Context(), storage.Filter{Name: "20260402100000_reindex_search", States: []storage.State{storage.Failed}})
	if err != nil || len(rows) == 0 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if said := v.done(dashboard.Retry, url.Values{"target": {rows[0].ID.String()}}); !strings.Contains(said, "with the command") {
		t.Errorf("got %s", said)
	}
}
