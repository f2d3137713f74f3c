package dashboard

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// policy is what a page may load and where its forms may go: its own origin, and no
// script or style that stands in the page.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// secured sets the headers of every answer, refusals too.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// admitted lets in whom the options admit, and tells the rest why not.
func (s *server) admitted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, problem := s.person(r)
		if problem == "" {
			next.ServeHTTP(w, r.WithContext(withPerson(r.Context(), who)))
			return
		}
		status := http.StatusForbidden
		if s.o.Credentials != nil {
			w.Header().Set("WWW-Authenticate", `Basic realm="sequencer", charset="UTF-8"`)
			status = http.StatusUnauthorized
		}
		http.Error(w, problem, status)
	})
}

// person is who sent a request, or why it is refused.
func (s *server) person(r *http.Request) (who Person, problem string) {
	switch {
	case s.o.Check != nil:
		who, ok := s.o.Check(r)
		if !ok {
			return Person{}, "You may not see this."
		}
		return who, ""
	case s.o.Credentials != nil:
		name, password, _ := r.BasicAuth()
		if !s.knows(name, password) {
			return Person{}, "Name and password, please."
		}
		return Person{Name: name}, ""
	case local(r):
		return Person{}, ""
	}
	return Person{}, "This dashboard answers its own machine only, by a name such as localhost, without a proxy between and not from another site's link. " +
		"To open it, give it credentials (Options.Credentials, or --user of the command) or a check of the application's own (Options.Check)."
}

// knows compares in a time that does not depend on where a password differs, nor on
// whether there is anybody of that name.
func (s *server) knows(name, password string) bool {
	want, known := s.o.Credentials[name]
	a, b := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && known
}

// proxied are headers, besides X-Forwarded-*, that a request has which a proxy passed on.
var proxied = []string{"Cf-Connecting-Ip", "Forwarded", "True-Client-Ip", "Via", "X-Client-Ip", "X-Real-Ip"}

// local reports a request from this machine, made to this machine. The host is looked
// at because a page of a stranger may have a name that it lets point to 127.0.0.1, and
// the headers because all that a proxy passes on comes from this machine: what proxies
// add, and where the browser says that the page is which asks. A proxy that rewrites the
// host and adds nothing looks like this machine; nothing here can tell.
func local(r *http.Request) bool {
	for header := range r.Header {
		if strings.HasPrefix(header, "X-Forwarded-") || slices.Contains(proxied, header) {
			return false
		}
	}
	for _, header := range []string{"Origin", "Referer"} {
		for _, page := range r.Header.Values(header) {
			if u, err := url.Parse(page); err != nil || !loopback(u.Host) {
				return false
			}
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback() && loopback(r.Host)
}

// loopback reports a host, with or without a port, that names this machine.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// sameOrigin refuses a POST that another site had a browser send, and one that does
// not say where it comes from: every browser does.
func sameOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "This request comes from another site, so it is not carried out.", http.StatusForbidden)
	}))
	return protection.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "" {
			http.Error(w, "This request does not say from which site it comes (Origin), so it is not carried out.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// may reports whether somebody may do something.
func (s *server) may(who Person, a Action) bool {
	return slices.Contains(s.o.Allow, a) && (who.May == nil || who.May(a))
}
