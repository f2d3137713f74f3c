package browsertest

import (
	"strings"
	"testing"

	"github.com/gosequencer/sequencer/internal/showcase"
)

func (s *screen) pages() map[string]string {
	return map[string]string{
		"overview": "/", "deploys": "/deploys", "deploy": "/deploys/" + s.Run, "deploy-failed": "/deploys/" + s.FailedRun, "flow-run": "/flows/" + s.FailedRun, "operations": "/operations", "operation": "/operations/import_release",
		"executions": "/executions", "executions-failed": "/executions?state=failed", "execution-failed": "/executions/" + s.Failed,
		"execution-waiting": "/executions/" + s.Waiting, "execution-running": "/executions/" + s.Running, "execution-encrypted": "/executions/" + s.Encrypted,
		"flows": "/flows", "flow-batch": "/flows/" + s.Batch, "flow-chain": "/flows/" + s.Chain, "failures": "/failures", "queues": "/queues",
		"approvals": "/approvals", "execution-refund": "/executions/" + s.Refund, "approval": "/executions/" + s.Approval,
		"schedules": "/schedules", "workers": "/workers", "limits": "/limits", "audit": "/audit", "bulk": "/bulk?do=retry-all&state=failed&name=import_release",
	}
}

func TestEveryPageIsReadable(t *testing.T) {
	onBackends(t, func(t *testing.T, s *screen) {
		for name, path := range s.pages() {
			s.size(1360, 900)
			s.scheme("light")
			s.visit(path)
			body := s.text()
			if asked[string](s, "document.title") == "taken" || asked[int](s, `document.querySelectorAll("main img, main script").length`) != 0 {
				t.Errorf("%s: a payload has become markup", name)
			}
			if strings.Contains(body, showcase.Secret) {
				t.Errorf("%s shows what is encrypted", name)
			}
			if over := asked[int](s, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
				t.Errorf("%s is %d pixels wider than the window", name, over)
			}
			s.picture(name)
			s.scheme("dark")
			s.picture(name + "-dark")
			s.scheme("light")
			s.size(390, 844)
			if over := asked[int](s, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
				t.Errorf("%s is %d pixels wider than a phone", name, over)
			}
			s.picture(name + "-phone")
		}
		s.visit("/audit")
		if body := s.text(); !strings.Contains(body, showcase.Markup) {
			t.Errorf("the reason with markup is not shown as it is:\n%s", body)
		}
		s.clean()
	})
}
