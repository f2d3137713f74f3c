package dashboard_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/internal/showcase"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// has fails unless a page has all of these.
func (v *visit) has(path string, all ...string) {
	v.t.Helper()
	body := v.page(path)
	for _, must := range all {
		if !strings.Contains(body, must) {
			v.t.Errorf("%s lacks %s", path, must)
		}
	}
}

const offered = `name="action" value="approve"`

func TestWhatWaitsForApprovalIsShownAndAnswered(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Allow: dashboard.Actions()})
	v.has("/", `class="count">1<`)
	v.has("/approvals", "pay_refund", "finance", `href="/executions/`+v.Refund, `href="/executions/`+v.Approval, offered, `value="`+v.Approval+`"`)
	v.has("/executions/"+v.Refund, "approval by finance", offered, `value="reject"`)
	v.has("/executions/"+v.Approval, "Nobody has answered yet", "finance", `href="/executions/`+v.Refund, offered)

	if said := v.done(dashboard.Approve, url.Values{"target": {v.Approval}}); !strings.Contains(said, "pay_refund is approved") {
		t.Errorf("approve: %s", said)
	}
	v.Until(func() bool { return v.State(v.Refund) == storage.Completed })
	log := v.audit()
	said := false
	for i := range log {
		e := &log[i]
		said = said || e.Action == string(storage.ActApprove) && e.Target == v.Approval && e.Actor == "deployer@build-7" && strings.HasPrefix(e.Reason, "why not")
	}
	if !said {
		t.Errorf("the audit log has %+v", log[:2])
	}
	v.has("/approvals", "Nothing waits")
	v.has("/executions/"+v.Approval, "approved", "Approved by deployer@build-7: why not")
	for _, path := range []string{"/", "/approvals", "/executions/" + v.Approval, "/executions/" + v.Refund} {
		if body := v.page(path); strings.Contains(body, offered) || strings.Contains(body, `class="count"`) {
			t.Errorf("%s still asks", path)
		}
	}
	if said := v.done(dashboard.Reject, url.Values{"target": {v.Approval}}); !strings.HasPrefix(said, "bad") || !strings.Contains(said, "answered already") {
		t.Errorf("a second answer: %s", said)
	}
}

func TestARejectionNeedsAReasonAndIsNoFailureOfItsOwn(t *testing.T) {
	t.Parallel()
	v := open(t, dashboard.Options{Allow: dashboard.Actions()})
	answer, _ := v.ask(http.MethodPost, "/act", url.Values{"action": {"reject"}, "target": {v.Approval}, "reason": {"  "}, "back": {"/approvals"}})
	if answer.StatusCode != http.StatusSeeOther || v.State(v.Approval) != storage.Pending {
		t.Errorf("rejected without a reason: %s, %s", answer.Status, v.State(v.Approval))
	}
	v.has("/approvals", " required=")
	if said := v.done(dashboard.Reject, url.Values{"target": {v.Refund}}); !strings.Contains(said, "pay_refund is rejected") {
		t.Errorf("reject: %s", said)
	}
	v.Until(func() bool { return v.State(v.Refund) == storage.Failed })
	v.has("/executions/"+v.Approval, "rejected", "Rejected by deployer@build-7: why not")
	for _, bad := range []string{`value="retry"`, `value="forget"`} {
		if strings.Contains(v.page("/executions/"+v.Approval), bad) {
			t.Errorf("an answered question offers %s", bad)
		}
	}
	if body := v.page("/"); strings.Contains(body, `href="/executions/`+v.Approval) {
		t.Error("a rejection is shown among the latest failures, beside what failed of it")
	}
}

func TestAnswersAreAllowedEachByItselfAndToWhomTheApplicationLets(t *testing.T) {
	t.Parallel()
	show := showcase.Open(t, memory.New(), nil, func(c *sequencer.Config) {
		c.MayApprove = func(_ context.Context, actor string, a sequencer.Approval) error {
			if actor != "dana" {
				return fmt.Errorf("%s is not in %s", actor, a.By)
			}
			return nil
		}
	})
	v := openOn(t, show, dashboard.Options{
		Check: func(r *http.Request) (dashboard.Person, bool) {
			who := r.Header.Get("X-User")
			return dashboard.Person{Name: who, May: func(a dashboard.Action) bool { return who != "grace" || a == dashboard.Reject }}, who != ""
		},
		Allow: []dashboard.Action{dashboard.Approve, dashboard.Reject},
	})
	v.header = http.Header{"X-User": {"grace"}}
	if body := v.page("/approvals"); strings.Contains(body, offered) || !strings.Contains(body, `value="reject"`) {
		t.Error("grace is offered what she may not do, or not what she may")
	}
	if answer, _ := v.order(dashboard.Approve); answer.StatusCode != http.StatusForbidden {
		t.Errorf("grace approves: %s", answer.Status)
	}
	v.header = http.Header{"X-User": {"eve"}}
	answer, _ := v.order(dashboard.Approve)
	cookie, _, _ := strings.Cut(answer.Header.Get("Set-Cookie"), ";")
	v.header = http.Header{"X-User": {"eve"}, "Cookie": {cookie}}
	v.has("/approvals", `class="notice bad"`, "ve may not answer for finance about pay_refund: eve is not in finance")
	if st := v.State(v.Approval); st != storage.Pending {
		t.Errorf("eve's answer counts: %s", st)
	}
	v.header = http.Header{"X-User": {"dana"}}
	if answer, body := v.order(dashboard.Approve); answer.StatusCode != http.StatusSeeOther {
		t.Errorf("dana approves: %s %s", answer.Status, body)
	}
	v.has("/executions/"+v.Approval, "Approved by dana: a test")
}

// deploying is a visit while a run waits for an approval, and how it ended.
func deploying(t *testing.T, patience time.Duration) (v *visit, ended <-chan error) {
	t.Helper()
	reg := sequencer.NewRegistry()
	do := func(context.Context) error { return nil }
	sequencer.RegisterFunc(reg, "20260105090000_add_countries", do)
	sequencer.RegisterFunc(reg, "20260501090000_drop_prices", do, sequencer.ApprovedBy("dba"))
	seq, err := sequencer.New(memory.New(), reg, sequencer.Config{Actor: "deployer@build-7", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := seq.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	v = openOn(t, &showcase.Show{Sequencer: seq}, dashboard.Options{Allow: dashboard.Actions()})
	v.has("/deploys", "needs approval by dba")
	over := make(chan error, 1)
	go func() {
		_, err := seq.Process(t.Context(), sequencer.RunOptions{WaitApproval: patience})
		over <- err
	}()
	return v, over
}

// newestRun is the page of it.
func (v *visit) newestRun() string {
	v.t.Helper()
	runs, err := v.Store().Flows(v.t.Context(), storage.FlowFilter{Kinds: []storage.FlowKind{storage.FlowRun}, Limit: 1})
	if err != nil || len(runs) == 0 {
		v.t.Fatalf("%d runs, %v", len(runs), err)
	}
	return "/deploys/" + runs[0].ID.String()
}

// asked waits for the first question.
func (v *visit) asked() sequencer.Approval {
	v.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		all, err := v.Approvals(v.t.Context())
		if err != nil {
			v.t.Fatal(err)
		}
		if len(all) > 0 {
			return all[0]
		}
	}
	return sequencer.Approval{}
}

func TestADeployShowsWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	v, ended := deploying(t, time.Minute)
	asked := v.asked()
	v.has(v.newestRun(), "Waits for approval", "20260501090000_drop_prices", "dba", offered, `value="`+asked.ID+`"`)
	if said := v.done(dashboard.Approve, url.Values{"target": {asked.ID}}); !strings.HasPrefix(said, "good") {
		t.Errorf("approve: %s", said)
	}
	if err := <-ended; err != nil {
		t.Errorf("the run ended with %v", err)
	}
	if strings.Contains(v.page(v.newestRun()), "Waits for approval") {
		t.Error("it still waits")
	}
}

func TestADeployThatStoppedShowsWhatItStoppedAt(t *testing.T) {
	t.Parallel()
	v, ended := deploying(t, 0)
	if err := <-ended; !errors.Is(err, sequencer.ErrNotApproved) {
		t.Fatalf("the run ended with %v", err)
	}
	asked := v.asked()
	v.has(v.newestRun(), "Waits for approval", "nothing at the moment", offered, `value="`+asked.ID+`"`)
	v.has("/approvals", "20260501090000_drop_prices", "nothing at the moment", offered)
	if said := v.done(dashboard.Approve, url.Values{"target": {asked.ID}}); !strings.HasPrefix(said, "good") {
		t.Errorf("approve: %s", said)
	}
	v.has("/deploys", "approved for dba")
}
