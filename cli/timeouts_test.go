package cli

import (
	"net/http"
	"testing"
)

func TestTheDashboardsServerWaitsForNoClientForEver(t *testing.T) {
	s := dashboardServer(t.Context(), http.NotFoundHandler())
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 {
		t.Errorf("a timeout is missing: header %s, read %s, write %s, idle %s", s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout)
	}
}
