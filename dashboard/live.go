package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// What changes on a page that somebody looks at is sent to their browser as markup, part
// by part, over one request that stays open (server-sent events). The page is made anew
// as it was made first; what differs from what was sent last is sent. All browsers that
// have a page open share one reading of it, which whoever comes first once it is due
// does for the others: there is no goroutine but those of the requests.

// captureKey leads a page's builder to who wants the parts that change.
type captureKey struct{}

// capture takes them.
type capture struct{ parts []fragment }

// fragment is a part of a page that may change.
type fragment struct{ id, html string }

func (c *capture) take(whole node) {
	walk(whole, func(e *element) {
		for _, a := range e.attrs {
			if a.name == "data-fragment" {
				c.parts = append(c.parts, fragment{e.attribute("id"), string(written(e))})
			}
		}
	})
}

// lives are the pages that browsers look at.
type lives struct {
	mu  sync.Mutex // guards what follows, and the counts of each page
	all map[string]*livePage
}

// livePage is one of them.
type livePage struct {
	shared[[]fragment]

	lookers int
}

// join finds a page, or begins with it.
func (l *lives) join(key string) (p *livePage, leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[string]*livePage{}
	}
	if l.all[key] == nil {
		l.all[key] = &livePage{}
	}
	p = l.all[key]
	p.lookers++
	return p, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if p.lookers--; p.lookers == 0 {
			delete(l.all, key)
		}
	}
}

// liveURL is where the changes of this page come from.
func (p *request) liveURL() string {
	path := strings.TrimPrefix(p.here(), p.o.Prefix)
	if path == "" {
		path = "/"
	}
	return p.url("/live", "at", path)
}

// streamTime bounds one stream; the browser begins another. A proxy may have less
// patience.
const streamTime = 10 * time.Minute

// sendTime is how long a browser may take to receive what changed; one that reads no
// more is not waited for.
const sendTime = 30 * time.Second

// live streams what changes on the page that at names.
func (s *server) live(w http.ResponseWriter, r *http.Request, pages http.Handler) {
	at, err := url.Parse(r.URL.Query().Get("at"))
	if err != nil || at.Host != "" || at.Scheme != "" || !strings.HasPrefix(at.Path, "/") || at.Path == "/live" {
		http.Error(w, "This is no page of the dashboard.", http.StatusBadRequest)
		return
	}
	at.Path = s.o.Prefix + at.Path
	flush := http.NewResponseController(w)
	// The deadlines of the server are for requests that end: each part that is sent has one
	// of its own instead, the time between them has none. A writer may know no deadlines.
	_ = flush.SetReadDeadline(time.Time{})
	_ = flush.SetWriteDeadline(time.Time{})
	soon := func() { _ = flush.SetWriteDeadline(time.Now().Add(sendTime)) }
	defer soon() // for the end of the answer
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	ctx, cancel := context.WithTimeout(r.Context(), streamTime)
	defer cancel()
	look, leave := s.lives.join(s.viewer(personOf(r.Context())) + at.String())
	defer leave()
	read := func(ctx context.Context) ([]fragment, error) {
		c := &capture{}
		// Others wait for this reading, so it does not end with one browser's request.
		page := r.Clone(context.WithValue(context.WithoutCancel(ctx), captureKey{}, c))
		page.URL = at
		page.Header.Del("Cookie") // what was done is told by the page itself
		pages.ServeHTTP(nowhere{}, page)
		return c.parts, nil
	}
	sent := map[string]string{}
	tick := time.NewTicker(s.o.Refresh)
	defer tick.Stop()
	for {
		parts, err := look.get(ctx, s.o.Refresh/2, read)
		if err != nil {
			return
		}
		soon()
		if !send(w, parts, sent) || flush.Flush() != nil {
			return
		}
		_ = flush.SetWriteDeadline(time.Time{})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// viewer is what those have in common who see the same page at one address.
func (s *server) viewer(who Person) string {
	key := []string{who.Name}
	for _, a := range s.o.Allow {
		if s.may(who, a) {
			key = append(key, string(a))
		}
	}
	return strings.Join(key, "\n") + "\n\n"
}

// send writes the parts that differ from what was sent, or a comment by which a closed
// connection is noticed.
func send(w http.ResponseWriter, parts []fragment, sent map[string]string) bool {
	var b bytes.Buffer
	for _, f := range parts {
		if sent[f.id] == f.html {
			continue
		}
		sent[f.id] = f.html
		data, err := json.Marshal(map[string]string{"id": f.id, "html": f.html})
		if err != nil {
			return false
		}
		b.WriteString("event: part\ndata: ")
		b.Write(data)
		b.WriteString("\n\n")
	}
	if b.Len() == 0 {
		b.WriteString(": nothing new\n\n")
	}
	_, err := w.Write(b.Bytes())
	return err == nil
}

// nowhere takes what a page writes that is captured instead.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}
