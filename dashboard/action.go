package dashboard

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// deed is one action that somebody asked for.
type deed struct {
	*request

	target string // an execution, a flow, a name
	kind   string // of what is paused; how an execution is resolved
	reason string
}

// deeds carry the actions out, through the methods that the commands use, so that actor
// and reason stand in the audit log alike. Each returns what it did, for people.
var deeds = map[Action]func(d *deed) (string, error){
	Retry: func(d *deed) (string, error) {
		if err := d.queued(); err != nil {
			return "", err
		}
		return "It is queued again.", d.by.Retry(d.ctx, d.target, d.reason)
	},
	Cancel: func(d *deed) (string, error) {
		return "It is cancelled, or asked to stop if it runs.", d.by.Cancel(d.ctx, d.target, d.reason)
	},
	Forget: func(d *deed) (string, error) { return "It is forgotten.", d.by.Forget(d.ctx, d.target, d.reason) },
	Resolve: func(d *deed) (string, error) {
		return "It counts as " + d.kind + ".", d.by.Resolve(d.ctx, d.target, sequencer.Resolution(d.kind), d.reason)
	},
	RetryAll: func(d *deed) (string, error) {
		return d.onAll(d.by.RetryAll, "queued again")
	},
	CancelAll: func(d *deed) (string, error) {
		return d.onAll(d.by.CancelAll, "cancelled, or asked to stop")
	},
	ForgetAll: func(d *deed) (string, error) {
		return d.onAll(d.by.ForgetAll, "forgotten")
	},
	Pause: func(d *deed) (string, error) {
		return fmt.Sprintf("The %s %s is paused.", d.kind, d.target), d.by.Pause(d.ctx, storage.PauseKind(d.kind), d.target, d.reason)
	},
	Resume: func(d *deed) (string, error) {
		return fmt.Sprintf("The %s %s goes on.", d.kind, d.target), d.by.Resume(d.ctx, storage.PauseKind(d.kind), d.target, d.reason)
	},
	RunSchedule: func(d *deed) (string, error) {
		r, err := d.by.RunSchedule(d.ctx, d.target, d.reason)
		if r.Duplicate {
			return "It is in flight already, as " + r.HolderID + ".", err
		}
		return "Queued as " + r.ID + ".", err
	},
	CancelFlow: func(d *deed) (string, error) {
		f, err := d.by.Flow(d.ctx, d.target)
		if err != nil {
			return "", err
		}
		return "What has not started never will.", f.Cancel(d.ctx, d.reason)
	},
	RetryFlow: func(d *deed) (string, error) {
		f, err := d.by.Flow(d.ctx, d.target)
		if err != nil {
			return "", err
		}
		return "What failed is queued again.", f.Retry(d.ctx, sequencer.RetryOptions{Reason: d.reason})
	},
	Unlock: func(d *deed) (string, error) {
		l, err := d.by.Unlock(d.ctx, d.reason)
		if l == nil {
			return "Nobody held the run lock.", err
		}
		return fmt.Sprintf("The run lock of %s is free.", l.Worker.Hostname), err
	},
	Approve: func(d *deed) (string, error) {
		a, err := d.by.Approve(d.ctx, d.target, d.reason)
		return a.Name + " is approved.", err
	},
	Reject: func(d *deed) (string, error) {
		a, err := d.by.Reject(d.ctx, d.target, d.reason)
		return a.Name + " is rejected.", err
	},
}

// queued refuses to retry here what no worker would take: it would run in this process,
// while the browser waits.
func (d *deed) queued() error {
	id, err := storage.ParseID(d.target)
	if err != nil {
		return err
	}
	rows, err := d.by.Store().Executions(d.ctx, storage.Filter{IDs: []storage.ID{id}})
	if err != nil {
		return err
	}
	if len(rows) > 0 && strings.HasPrefix(rows[0].Queue, storage.PrivateQueue) {
		return errors.New("it was no worker's, but of a deploy or of a call that waited: retry it with the command, which runs it")
	}
	return nil
}

// onAll carries an action out on all that the form selects.
func (d *deed) onAll(verb func(context.Context, sequencer.Selection, string) (sequencer.Selected, error), what string) (string, error) {
	w := d.wanted()
	if err := w.readable(); err != nil {
		return "", err
	}
	sel := w.selection()
	// That all of them are meant is what the preview writes, never what a filter lacks.
	if sel.All = d.r.PostForm.Get("all") == "yes"; w.everything() && !sel.All {
		return "", &filterError{"nothing narrows this down, and it does not say that all of them are meant"}
	}
	r, err := verb(d.ctx, sel, d.reason)
	said := []string{fmt.Sprintf("%s %s.", plural(r.Done, "execution"), what)}
	for _, why := range slices.Sorted(maps.Keys(r.LeftOut)) {
		said = append(said, fmt.Sprintf("%s left out: %s.", grouped(r.LeftOut[why]), why))
	}
	return strings.Join(said, " "), err
}

// actTime is how long an action may take. One on all that match has done what it had by
// then, page by page.
const actTime = 2 * time.Minute

// act carries out what a form asks for, and leads back to where it was asked.
func (s *server) act(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The form could not be read.", http.StatusBadRequest)
		return
	}
	action := Action(r.PostForm.Get("action"))
	do, known := deeds[action]
	switch {
	case !known:
		http.Error(w, "There is no such action.", http.StatusBadRequest)
		return
	case !s.may(personOf(r.Context()), action):
		http.Error(w, fmt.Sprintf("You may not %s here: it is not among the actions that are allowed (Options.Allow).", action), http.StatusForbidden)
		return
	}
	// What was begun is finished, also when the browser has gone; but not for ever.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), actTime)
	defer cancel()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(actTime + sendTime)) // a writer may know none
	d := &deed{
		request: s.request(ctx, r), target: r.PostForm.Get("target"), kind: r.PostForm.Get("kind"), reason: strings.TrimSpace(r.PostForm.Get("reason")),
	}
	said, err := do(d)
	if unread := (*filterError)(nil); errors.As(err, &unread) {
		http.Error(w, capital(err.Error()), http.StatusBadRequest)
		return
	}
	look := "good"
	if err != nil {
		look, said = "bad", capital(err.Error())
	}
	s.pulses.forget(ctx)
	s.lists.forget()
	s.causes.forget()
	say(w, s.url("/"), look, said)
	http.Redirect(w, r, s.back(r.PostForm.Get("back")), http.StatusSeeOther)
}

// back is a page of this dashboard to return to.
func (s *server) back(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Host != "" || u.Scheme != "" || u.Opaque != "" || !strings.HasPrefix(u.Path, s.o.Prefix+"/") || strings.HasPrefix(to, "//") || strings.Contains(to, `\`) {
		return s.url("/")
	}
	return u.RequestURI()
}

// What was done is said on the next page, once: by a cookie that it takes away again.
const noticeCookie = "sequencer_notice"

func say(w http.ResponseWriter, path, look, said string) {
	const most = 1000
	said = clipped(said, most)
	http.SetCookie(w, &http.Cookie{
		Name: noticeCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(look + " " + said)), Path: path, MaxAge: 60,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// notice shows it.
func (p *request) notice() node {
	c, err := p.r.Cookie(noticeCookie)
	if err != nil {
		return list(nil)
	}
	value, err := base64.RawURLEncoding.DecodeString(c.Value)
	look, said, _ := strings.Cut(string(value), " ")
	if err != nil || look != "good" && look != "bad" || said == "" {
		return list(nil)
	}
	return el("p", class("notice "+look), attr{"role", "status"}, text(said))
}

// spoken takes the cookie away.
func (p *request) spoken(w http.ResponseWriter) {
	if _, err := p.r.Cookie(noticeCookie); err == nil {
		http.SetCookie(w, &http.Cookie{Name: noticeCookie, Path: p.url("/"), MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	}
}

// form is a button that asks why before it does something; nothing for who may not.
func (p *request) form(a Action, word, target string, more ...part) node {
	if !p.may(p.who, a) {
		return list(nil)
	}
	back := p.here()
	if a == Forget {
		back = p.url("/executions") // what is forgotten has no page
	}
	return el("details", class("action"), el("summary", text(word)),
		el("form", attr{"method", "post"}, attr{"action", p.url("/act")},
			hidden("action", string(a)), hidden("target", target), hidden("back", back), list(more),
			el("label", el("span", text("Reason")), el("input", attr{"name", "reason"}, attr{"maxlength", "500"}, attr{"autocomplete", "off"}, attr{"placeholder", "for the audit log"}, flag("required", a == Reject))),
			el("button", class(dangerous(a)), text(word))))
}

func dangerous(a Action) string {
	if slices.Contains([]Action{Cancel, Forget, CancelAll, ForgetAll, CancelFlow, Unlock, Reject}, a) {
		return "danger"
	}
	return "do"
}

func hidden(name, value string) node {
	return el("input", attr{"type", "hidden"}, attr{"name", name}, attr{"value", value})
}

// executionActions are what can be done to an execution as it stands; asked is the
// approval that it waits for, nil if it waits for none.
func (p *request) executionActions(e *storage.Execution, asked *sequencer.Approval) node {
	id := e.ID.String()
	all := list{p.answerForms(asked)}
	switch e.State {
	case storage.Pending, storage.Running:
		all = append(all, p.form(Cancel, "Cancel", id))
	case storage.Failed:
		all = append(all, p.form(Retry, "Retry", id), p.form(Forget, "Forget", id))
	case storage.Cancelled:
		if e.Kind == storage.Unlisted {
			all = append(all, p.form(Retry, "Retry", id), p.form(Forget, "Forget", id))
		}
	case storage.Interrupted:
		all = append(all, p.form(Resolve, "It did happen", id, hidden("kind", string(sequencer.ResolveCompleted))),
			p.form(Resolve, "It did not happen", id, hidden("kind", string(sequencer.ResolveFailed))))
	default:
		if e.Kind == storage.Unlisted {
			all = append(all, p.form(Forget, "Forget", id))
		}
	}
	return el("div", class("actions"), all)
}

// flowActions are what can be done to a batch or chain as it stands.
func (p *request) flowActions(f *sequencer.FlowStatus) node {
	var all list
	switch {
	case f.Kind != storage.FlowBatch && f.Kind != storage.FlowChain:
	case !f.Over():
		all = append(all, p.form(CancelFlow, "Cancel", f.ID))
	case f.Failed+f.FailedAllowed > 0 && f.State != storage.Cancelled && f.State != storage.Interrupted:
		all = append(all, p.form(RetryFlow, "Retry what failed", f.ID))
	}
	return el("div", class("actions"), all)
}

func (p *request) pauseForms(kind storage.PauseKind, name string, paused bool) node {
	if paused {
		return p.form(Resume, "Resume", name, hidden("kind", string(kind)))
	}
	return p.form(Pause, "Pause", name, hidden("kind", string(kind)))
}

func (p *request) scheduleActions(x *sequencer.ScheduleState) node {
	all := list{p.pauseForms(storage.PauseSchedule, x.Name, x.Paused)}
	if x.Standing != sequencer.ScheduleOrphaned && x.Standing != sequencer.ScheduleNewer {
		all = append(list{p.form(RunSchedule, "Run now", x.Name)}, all...)
	}
	return el("div", class("actions"), all)
}

func (p *request) lockActions(l *storage.LockState) node {
	if l.Name != sequencer.RunLock {
		return text("")
	}
	return p.form(Unlock, "Unlock", l.Name)
}
