package fileop

import (
	"os/exec"
	"sync"
)

// groups is the programs that run.
type groups struct {
	mu  sync.Mutex
	all map[*exec.Cmd]bool
}

func (g *groups) add(cmd *exec.Cmd) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all = map[*exec.Cmd]bool{}
	}
	g.all[cmd] = true
}

func (g *groups) remove(cmd *exec.Cmd) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.all, cmd)
}

// Kill ends every program that runs, where possible with all that it started. It
// is for a process that is about to end without waiting for them.
func (s *Set) Kill() {
	s.running.mu.Lock()
	defer s.running.mu.Unlock()
	for cmd := range s.running.all {
		killGroup(cmd)
	}
}
