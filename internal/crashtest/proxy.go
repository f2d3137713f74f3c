//go:build linux

package crashtest

import (
	"context"
	"net"
	"sync"
	"testing"
)

// Proxy stands between processes and a server, and makes their connections bad: it
// drops them, lets them stall, or cuts them in the middle of a message.
type Proxy struct {
	Host string // where to connect instead

	server   string
	listener net.Listener
	busy     sync.WaitGroup

	mu      sync.Mutex // guards the rest
	links   map[*link]bool
	stalled chan struct{} // closed when what stalls may go on, nil when nothing does
	closed  bool
}

// link is one connection from a process to the server.
type link struct {
	ends [2]net.Conn
	mu   sync.Mutex // guards left
	left int        // bytes that may still pass, negative = any number
}

// NewProxy starts a proxy in front of a server for as long as the test runs.
func NewProxy(tb testing.TB, server string) *Proxy {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{Host: l.Addr().String(), server: server, listener: l, links: map[*link]bool{}}
	p.busy.Go(p.accept)
	tb.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.Resume()
		p.Drop()
		p.busy.Wait()
	})
	return p
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.busy.Go(func() { p.serve(conn) })
	}
}

// serve carries bytes both ways until one side has ended.
func (p *Proxy) serve(conn net.Conn) {
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.server)
	if err != nil { // it is down: the process sees a connection that ends
		_ = conn.Close()
		return
	}
	l := &link{ends: [2]net.Conn{conn, server}, left: -1}
	p.mu.Lock()
	p.links[l] = true
	closed := p.closed
	p.mu.Unlock()
	if closed {
		l.close()
	}
	p.busy.Go(func() { p.carry(l, conn, server) })
	p.carry(l, server, conn)
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

func (p *Proxy) carry(l *link, from, to net.Conn) {
	defer l.close()
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if wait := p.waits(); wait != nil {
			<-wait
		}
		allowed := l.pass(n)
		if _, werr := to.Write(buffer[:allowed]); werr != nil || err != nil || allowed < n {
			return
		}
	}
}

// pass takes n from what may still pass and returns how much of it does.
func (l *link) pass(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left < 0 {
		return n
	}
	n = min(n, l.left)
	l.left -= n
	return n
}

func (l *link) close() {
	_ = l.ends[0].Close()
	_ = l.ends[1].Close()
}

func (p *Proxy) waits() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stalled
}

// Drop ends all connections and returns how many there were.
func (p *Proxy) Drop() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
	return len(p.links)
}

// Cut ends all connections once n more bytes, in either direction, have passed. It
// returns how many there are.
func (p *Proxy) Cut(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.mu.Lock()
		l.left = n
		l.mu.Unlock()
	}
	return len(p.links)
}

// Stall keeps back what is on its way on all connections, old and new, until Resume.
// It returns how many there are.
func (p *Proxy) Stall() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled == nil {
		p.stalled = make(chan struct{})
	}
	return len(p.links)
}

// Resume lets what stalled go on.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled != nil {
		close(p.stalled)
		p.stalled = nil
	}
}
