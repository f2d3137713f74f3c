package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// pageTime is how long a page may take to be read.
const pageTime = 10 * time.Second

// request is one page being made.
type request struct {
	*server

	ctx context.Context
	r   *http.Request
	q   url.Values
	who Person
	by  *sequencer.Sequencer // on behalf of who
	now time.Time
}

func (s *server) request(ctx context.Context, r *http.Request) *request {
	who := personOf(ctx)
	return &request{server: s, ctx: ctx, r: r, q: r.URL.Query(), who: who, by: s.seq.As(who.Name), now: time.Now()}
}

// page is what a builder makes.
type page struct {
	title  string
	nav    string // the entry of the navigation it belongs to
	status int    // 0 = 200
	body   list
}

type builder func(p *request) (page, error)

// page serves what a builder makes: the whole of it, or for a stream of changes the
// parts that may change (see captured).
func (s *server) page(build builder) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), pageTime)
		defer cancel()
		p := s.request(ctx, r)
		got, err := build(p)
		if err != nil {
			got = problem(err)
		}
		whole := p.layout(got)
		if c, ok := ctx.Value(captureKey{}).(*capture); ok {
			c.take(whole)
			return
		}
		p.spoken(w)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(max(got.status, http.StatusOK))
		_, _ = w.Write([]byte("<!doctype html>\n")) // who has gone reads nothing
		_, _ = w.Write(written(whole))
	})
}

// problem is a page in the place of one that could not be made.
func problem(err error) page {
	var schema *storage.SchemaError
	switch {
	case errors.As(err, &schema) && schema.Missing():
		return page{title: "No ledger yet", body: list{hint(
			"This database has no ledger yet.", "The first deploy run, worker or Setup makes it. This page shows it as soon as it is there.")}}
	case errors.Is(err, storage.ErrNotFound), errors.Is(err, sequencer.ErrOperationNotFound):
		return page{title: "Not found", status: http.StatusNotFound, body: list{hint("The ledger does not have this.", err.Error())}}
	case errors.Is(err, context.DeadlineExceeded):
		return page{title: "Took too long", status: http.StatusServiceUnavailable, body: list{hint(
			fmt.Sprintf("The ledger did not answer within %s.", pageTime), "Narrow the filter by state, name or time, and try again.")}}
	}
	return page{title: "Something went wrong", status: http.StatusInternalServerError, body: list{hint("The ledger could not be read.", err.Error())}}
}

func lost(*request) (page, error) {
	return page{title: "Not found", status: http.StatusNotFound, body: list{hint("There is no such page.", "Choose one from the navigation.")}}, nil
}

// sections is the navigation.
var sections = []struct{ path, name string }{
	{"/", "Overview"},
	{"/deploys", "Deploys"},
	{"/approvals", "Approvals"},
	{"/operations", "Operations"},
	{"/executions", "Executions"},
	{"/flows", "Flows"},
	{"/failures", "Failures"},
	{"/queues", "Queues"},
	{"/schedules", "Schedules"},
	{"/workers", "Workers"},
	{"/limits", "Limits"},
	{"/audit", "Audit"},
}

// layout puts a page between head and navigation.
func (p *request) layout(got page) node {
	var nav list
	for _, s := range sections {
		current := list(nil)
		if s.name == got.nav {
			current = list{attr{"aria-current", "page"}}
		}
		count := node(list(nil))
		if s.path == "/approvals" {
			count = p.approvalsWaiting()
		}
		nav = append(nav, el("li", nil, el("a", p.to(s.path), current, text(s.name), count)))
	}
	return el("html", attr{"lang", "en"},
		el("head", nil,
			el("meta", attr{"charset", "utf-8"}),
			el("meta", attr{"name", "viewport"}, attr{"content", "width=device-width, initial-scale=1"}),
			el("meta", attr{"name", "color-scheme"}, attr{"content", "light dark"}),
			el("title", textf("%s · %s", got.title, p.o.Title)),
			el("link", attr{"rel", "icon"}, attr{"href", p.asset("icon.svg")}),
			el("link", attr{"rel", "stylesheet"}, attr{"href", p.asset("style.css")}),
			el("script", attr{"src", p.asset("live.js")}, attr{"defer", ""}, attr{"data-live", p.liveURL()}),
		),
		el("body", nil,
			el("a", class("skip"), attr{"href", "#content"}, text("Skip to the content")),
			el("header", class("top"),
				el("a", class("brand"), p.to("/"), text(p.o.Title)),
				el("span", class("where"), text(p.seq.Store().Name()+" · "+p.seq.Config().Environment)),
				el("button", class("live"), attr{"type", "button"}, attr{"id", "live"}, attr{"hidden", ""},
					attr{"aria-pressed", "true"}, text("Live")),
			),
			el("nav", attr{"aria-label", "Pages"}, el("ul", nav)),
			el("main", attr{"id", "content"}, attr{"tabindex", "-1"},
				p.strip(),
				p.notice(),
				el("h1", text(got.title)),
				got.body,
			),
		),
	)
}

// to is a link to a path of the dashboard, with pairs of names and values as its query;
// empty values are left out.
func (s *server) to(path string, query ...string) attr {
	return attr{"href", s.url(path, query...)}
}

func (s *server) url(path string, query ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		if query[i+1] != "" {
			q.Set(query[i], query[i+1])
		}
	}
	u := url.URL{Path: s.o.Prefix + path, RawQuery: q.Encode()}
	return u.String()
}

// here is the page itself, as a path with its query.
func (p *request) here() string { return p.r.URL.RequestURI() }

// hint says that there is nothing to show, and what would change that.
func hint(what, more string) node {
	return el("div", class("hint"), el("p", text(what)), el("p", class("quiet"), text(more)))
}

// card is a part of a page under a heading of its own.
func card(title string, parts ...part) *element {
	return el("section", class("card"), el("h2", text(title)), list(parts))
}

// live marks a part of a page that is sent anew when it changes.
func live(id string, parts ...part) *element {
	return el("div", attr{"id", id}, attr{"data-fragment", ""}, list(parts))
}

// table is one, or what is said in the place of an empty one. Cells are told by the
// heads of their columns where a phone shows rows one below the other.
func table(caption, empty string, heads []string, rows []list) node {
	if len(rows) == 0 {
		return el("p", class("empty"), text(empty))
	}
	var head, body list
	for _, h := range heads {
		name, number := strings.CutPrefix(h, "#")
		head = append(head, el("th", attr{"scope", "col"}, numeric(number), text(name)))
	}
	for _, row := range rows {
		var cells list
		for i, cell := range row {
			name, number := strings.CutPrefix(heads[i], "#")
			if blank(cell) {
				cell = nil // a phone leaves it out
			}
			cells = append(cells, el("td", attr{"data-label", name}, numeric(number), list{cell}))
		}
		body = append(body, el("tr", cells))
	}
	return el("div", class("scroll"), el("table",
		el("caption", class("unseen"), text(caption)), el("thead", el("tr", head)), el("tbody", body)))
}

// blank reports a cell in which there is nothing to see.
func blank(p part) bool {
	switch p := p.(type) {
	case text:
		return p == ""
	case list:
		return !slices.ContainsFunc(p, func(p part) bool { return p != nil && !blank(p) })
	case *element:
		return p == nil || p.tag != "svg" && p.tag != "progress" && !slices.ContainsFunc(p.inside, func(n node) bool { return !blank(n) })
	}
	return true
}

func numeric(is bool) part {
	if !is {
		return list(nil)
	}
	return class("number")
}
