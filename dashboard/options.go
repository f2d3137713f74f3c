package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Action is something that a person may do here. Each is allowed by itself
// ([Options.Allow]); an action that is not allowed is neither shown nor carried out.
type Action string

// The actions.
const (
	Retry       Action = "retry"        // try one execution again
	Cancel      Action = "cancel"       // withdraw one execution
	Forget      Action = "forget"       // delete one execution that is over
	Resolve     Action = "resolve"      // say what became of an interrupted execution
	RetryAll    Action = "retry-all"    // try all again that failed and match a filter
	CancelAll   Action = "cancel-all"   // withdraw all that is not over and matches a filter
	ForgetAll   Action = "forget-all"   // delete all that failed and matches a filter
	Pause       Action = "pause"        // pause a queue, an operation or a schedule
	Resume      Action = "resume"       // lift a pause
	RunSchedule Action = "run-schedule" // dispatch what a schedule dispatches, now
	CancelFlow  Action = "cancel-flow"  // stop a batch or chain
	RetryFlow   Action = "retry-flow"   // try again what failed in a batch or chain
	Unlock      Action = "unlock"       // take the run lock from its holder
	Approve     Action = "approve"      // let run what waits for an approval
	Reject      Action = "reject"       // have it fail instead; wants a reason
)

// Actions are all there are.
func Actions() []Action {
	return []Action{
		Retry, Cancel, Forget, Resolve, RetryAll, CancelAll, ForgetAll, Pause, Resume, RunSchedule, CancelFlow, RetryFlow, Unlock,
		Approve, Reject,
	}
}

// Person is who sent a request.
type Person struct {
	// Name stands in the ledger and in the audit log beside what they do; "" is
	// Config.Actor.
	Name string
	// May narrows Options.Allow for this person; nil does not.
	May func(Action) bool
}

// DefaultRefresh is how often a page that somebody looks at is read anew.
const DefaultRefresh = 2 * time.Second

// Options is how a dashboard is served. The zero value serves the root of a server, to
// this machine alone, and lets nobody change anything.
type Options struct {
	// Prefix is the path that the dashboard is mounted under, as in "/admin/sequencer";
	// default the root. The handler takes requests with the prefix on them, so no
	// http.StripPrefix goes around it.
	Prefix string
	// Title stands on every page; default "Sequencer". Name the ledger or the
	// environment, where there are several.
	Title string
	// Credentials are names with passwords for basic authentication, which wants TLS in
	// front of it. They exclude Check. Without both the dashboard answers requests that
	// come from this machine, name it as their host, and carry no sign of a proxy or of
	// another site's page. A proxy that leaves no sign cannot be detected, so none goes in
	// front without one of them.
	Credentials map[string]string
	// Check is the application's own answer to who sent a request; false refuses it
	// with 403. It is called concurrently, once per request. Where a stranger is to be
	// sent to a login page, wrap the handler instead.
	Check func(r *http.Request) (Person, bool)
	// Allow are the actions that people may do; none makes the dashboard read-only.
	Allow []Action
	// Refresh is how often a page that is looked at is read anew, once for all browsers
	// that have it open; default DefaultRefresh, at least 100 ms.
	Refresh time.Duration
}

// normalize fills defaults in and returns every problem.
func (o *Options) normalize() error {
	var problems []error
	o.Prefix = strings.TrimRight(o.Prefix, "/")
	if o.Prefix != "" && (!strings.HasPrefix(o.Prefix, "/") || strings.Contains(o.Prefix, "//") || strings.ContainsAny(o.Prefix, `?#%{}" \`)) {
		problems = append(problems, fmt.Errorf("options Prefix = %q: want a plain path such as /admin/sequencer", o.Prefix))
	}
	if o.Title == "" {
		o.Title = "Sequencer"
	}
	if o.Credentials != nil && o.Check != nil {
		problems = append(problems, errors.New("options Credentials and Check: give one of them"))
	}
	if o.Credentials != nil && len(o.Credentials) == 0 {
		problems = append(problems, errors.New("options Credentials has nobody in it: leave it nil, or nobody gets in"))
	}
	for name, password := range o.Credentials {
		if name == "" || strings.Contains(name, ":") || password == "" {
			problems = append(problems, fmt.Errorf("options Credentials[%q]: want a name without a colon, and a password", name))
		}
	}
	for _, a := range o.Allow {
		if !slices.Contains(Actions(), a) {
			problems = append(problems, fmt.Errorf("options Allow: there is no action %q", a))
		}
	}
	switch {
	case o.Refresh == 0:
		o.Refresh = DefaultRefresh
	case o.Refresh < 100*time.Millisecond:
		problems = append(problems, fmt.Errorf("options Refresh = %s: want 100ms or more", o.Refresh))
	}
	return errors.Join(problems...)
}
