package browsertest

import (
	"strings"
	"testing"

	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/internal/showcase"
	"github.com/gosequencer/sequencer/storage"
)

// form is where the form of an action stands, of the kind or target that it names if more than one
// is on the page.
func form(a dashboard.Action, more ...string) string {
	css := `details.action:has(input[name="action"][value="` + string(a) + `"])`
	for _, m := range more {
		css += `:has(input[value="` + m + `"])`
	}
	return css
}

// done opens a page, sends a form of it, and fails unless it went well and stands in the
// audit log.
func (s *screen) done(path, form string, logged storage.Action) {
	s.t.Helper()
	s.visit(path)
	const why = "looked at in a browser " + showcase.Markup
	said := s.fill(form, why)
	if asked[bool](s, `document.querySelector(".notice").classList.contains("bad")`) {
		s.t.Errorf("%s on %s: %s", form, path, said)
	}
	if logged == "" {
		return
	}
	log, err := s.Store().Audit(s.t.Context(), storage.AuditFilter{Limit: 1})
	s.must(err)
	if len(log) == 0 || log[0].Action != string(logged) || log[0].Reason != why {
		s.t.Errorf("%s on %s: the audit log has %+v", form, path, log)
	}
}

// walk does everything that can be done, each by its form.
func (s *screen) walk() {
	s.t.Helper()
	s.done("/executions/"+s.Waiting, form(dashboard.Cancel), storage.ActCancel)
	s.done("/executions/"+s.Waiting, form(dashboard.Forget), storage.ActForget)
	s.done("/executions/"+s.Failed, form(dashboard.Retry), storage.ActRetry)
	if got := s.State(s.Failed); got != storage.Pending {
		s.t.Errorf("retried in a paused queue, it is %s", got)
	}
	s.done("/flows/"+s.Batch, form(dashboard.RetryFlow), storage.ActResumeFlow)
	s.done("/flows/"+s.Open, form(dashboard.CancelFlow), storage.AuditStopFlow)
	s.done("/queues", form(dashboard.Resume, "mail"), storage.ActResume)
	s.done("/queues", form(dashboard.Pause, "reports"), storage.ActPause)
	s.done("/operations/build_report", form(dashboard.Pause), storage.ActPause)
	s.done("/operations/build_report", form(dashboard.Resume), storage.ActResume)
	s.done("/schedules", form(dashboard.Pause, "nightly_import"), storage.ActPause)
	s.done("/schedules", form(dashboard.Resume, "nightly_import"), storage.ActResume)
	s.done("/schedules", form(dashboard.RunSchedule, "nightly_import"), storage.AuditRunSchedule)
	s.done("/bulk?do=retry-all&state=failed&name=send_mail&age=1h", "main", "")
	s.done("/bulk?do=forget-all&state=failed&name=import_release", "main", "")
	s.done("/bulk?do=cancel-all&state=running&name=build_report", "main", storage.ActCancel)
}

// answers gives both answers to what waits for approval: one on the page of approvals, one
// on that of what waits.
func (s *screen) answers() {
	s.t.Helper()
	second := s.AskRefund()
	s.visit("/approvals")
	s.picture("approvals")
	s.size(390, 844)
	s.picture("approvals-phone")
	s.size(1360, 900)
	s.visit("/executions/" + s.Refund)
	s.picture("execution-refund")
	s.done("/approvals", form(dashboard.Approve, s.Approval), "")
	s.Until(func() bool { return s.State(s.Refund) == storage.Completed })
	s.visit("/executions/" + s.Approval)
	if body := s.text(); !strings.Contains(body, "Approved by deployer@build-7: looked at in a browser "+showcase.Markup) {
		s.t.Errorf("the answer is not on its page: %s", body)
	}
	s.picture("approval-answered")
	s.done("/executions/"+second, form(dashboard.Reject), "")
	s.Until(func() bool { return s.State(second) == storage.Failed })
	s.visit("/executions/" + second)
	if body := s.text(); !strings.Contains(body, "was rejected by deployer@build-7") {
		s.t.Errorf("what was rejected does not say so: %s", body)
	}
}

func TestWhatWaitsForApprovalIsAnsweredByItsForms(t *testing.T) {
	onBackends(t, func(t *testing.T, s *screen) {
		s.answers()
		s.clean()
	})
}

func TestEveryActionIsDoneByItsForm(t *testing.T) {
	onBackends(t, func(t *testing.T, s *screen) {
		// Between finding an element and clicking at it the driver may lose it to a change that arrives; a person does not.
		s.visit("/")
		s.click("#live")
		s.until(`document.getElementById("live").textContent === "Paused"`)
		s.walk()
		s.visit("/audit")
		if body := s.text(); !strings.Contains(body, "looked at in a browser "+showcase.Markup) {
			t.Error("the reason is not shown as it was written")
		}
		s.picture("audit-after")
		s.clean()
	})
}

func TestEverythingWorksWithoutScripts(t *testing.T) {
	onBackends(t, func(t *testing.T, s *screen) {
		s.scripts(false)
		for name, path := range s.pages() {
			s.visit(path)
			if body := s.text(); !strings.Contains(body, "Overview") {
				t.Errorf("%s: got %.200s", name, body)
			}
		}
		s.visit("/")
		s.picture("overview-without-scripts")
		s.walk()
	})
}
