package dashboard_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/storage/memory"
)

// signedIn is the application's own way to know somebody.
func signedIn(r *http.Request) (name string, admin, ok bool) {
	c, err := r.Cookie("session")
	if err != nil || c.Value != "of ada" {
		return "", false, false
	}
	return "ada", true, true
}

// mount puts the dashboard under a path of an application, which decides who may see it,
// and who may do more than look.
func mount(mux *http.ServeMux, seq *sequencer.Sequencer) error {
	board, err := dashboard.New(seq, dashboard.Options{
		Prefix: "/admin/sequencer",
		Check: func(r *http.Request) (dashboard.Person, bool) {
			name, admin, ok := signedIn(r)
			return dashboard.Person{Name: name, May: func(dashboard.Action) bool { return admin }}, ok
		},
		Allow: []dashboard.Action{dashboard.Retry, dashboard.RetryAll, dashboard.Cancel, dashboard.Pause, dashboard.Resume},
	})
	if err != nil {
		return err
	}
	mux.Handle("/admin/sequencer/", board)
	return nil
}

// Under a path of an application, with its own sessions.
func Example() {
	seq, err := sequencer.New(memory.New(), nil, sequencer.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	if err := mount(mux, seq); err != nil {
		fmt.Println(err)
		return
	}
	for _, session := range []string{"of ada", "of a stranger"} {
		r := httptest.NewRequest(http.MethodGet, "/admin/sequencer/failures", nil)
		r.AddCookie(&http.Cookie{Name: "session", Value: session})
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(session, w.Code)
	}
	// Output:
	// of ada 200
	// of a stranger 403
}
