//go:build linux

package crashtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gosequencer/sequencer/internal/testdb"
)

// serverLimit is how long a server may take to answer after it was started.
const serverLimit = time.Minute

// Server is a database server of a test's own, with data of its own on a port of its
// own. It runs with what makes an answered commit durable, and may be killed.
type Server struct {
	Host string // 127.0.0.1:port

	tb     testing.TB
	dir    string
	run    func() *exec.Cmd // the server in the foreground
	end    syscall.Signal   // ends it without a farewell
	answer func(ctx context.Context) error

	cmd  *exec.Cmd
	over chan struct{} // closed when it has ended
}

// newServer makes the directory and finds the port; serve does the rest. account is
// the user that the server insists on when the tests run as root.
func newServer(tb testing.TB, backend, account string) (*Server, *syscall.Credential) {
	tb.Helper()
	u, err := user.Lookup(account)
	if err != nil && os.Getuid() == 0 {
		testdb.LeaveOut(tb, backend, fmt.Errorf("as root, a server of one's own needs its user: %w", err))
	}
	// Not tb.TempDir, which only root could enter.
	dir, err := os.MkdirTemp("", "sequencer-crash-") //nolint:usetesting // see above
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, dir: dir, Host: freeHost(tb), end: syscall.SIGKILL}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	if os.Getuid() != 0 {
		return s, nil
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := errors.Join(os.Chown(dir, uid, gid), os.Chmod(dir, 0o700)); err != nil {
		tb.Fatal(err)
	}
	return s, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// freeHost is an address that nobody listens on at the moment.
func freeHost(tb testing.TB) string {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	host := l.Addr().String()
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
	return host
}

func (s *Server) port() string { return s.Host[strings.LastIndexByte(s.Host, ':')+1:] }

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

// command is a program of the server's, run as its user and in its directory, which
// does not outlive the tests.
func (s *Server) command(as *syscall.Credential, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(s.tb.Context()), name, args...)
	cmd.Dir = s.dir
	// MariaDB deletes temporary tables that it finds when it starts, another server's too.
	cmd.Env = append(os.Environ(), "TMPDIR="+s.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// prepare runs a command that has to succeed.
func (s *Server) prepare(cmd *exec.Cmd) {
	s.tb.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		s.tb.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// serve starts the server for as long as the test runs.
func (s *Server) serve() {
	s.tb.Helper()
	s.start()
	s.tb.Cleanup(func() { s.kill() })
}

func (s *Server) start() {
	s.tb.Helper()
	cmd := s.run()
	log, err := os.OpenFile(s.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = cmd.Wait() // it is killed, mostly
	}()
	s.cmd, s.over = cmd, over
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.tb.Context()), serverLimit)
	defer cancel()
	for {
		err := s.answer(ctx)
		if err == nil {
			return
		}
		select {
		case <-over:
			s.tb.Fatalf("%s: %s, %v\n%s", cmd.Path, cmd.ProcessState, err, s.log())
		case <-ctx.Done():
			s.tb.Fatalf("%s does not answer: %v\n%s", cmd.Path, err, s.log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) kill() {
	_ = s.cmd.Process.Signal(s.end)
	<-s.over
}

func (s *Server) log() string {
	text, _ := os.ReadFile(s.path("log"))
	return string(text[max(len(text)-4000, 0):])
}

// Restart ends the server at once, as a crash does, starts it again, and returns when
// it has recovered and answers.
func (s *Server) Restart() {
	s.tb.Helper()
	s.kill()
	s.start()
}

// PostgresServer starts a PostgreSQL with the user postgres and no password. Its
// programs need not be in the search path.
func PostgresServer(tb testing.TB) *Server {
	tb.Helper()
	s, as := newServer(tb, "postgres", "postgres")
	bin := func(name string) string {
		return newestProgram(tb, "postgres", name, "/usr/lib/postgresql/*/bin/"+name)
	}
	data := s.path("data")
	s.prepare(s.command(as, bin("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"))
	s.run = func() *exec.Cmd {
		return s.command(as, bin("postgres"), "-D", data, "-h", "127.0.0.1", "-p", s.port(), "-k", s.dir,
			"-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "max_connections=200", "-c", "shared_buffers=32MB")
	}
	s.end = syscall.SIGQUIT // "immediate": what SIGKILL does to the server, and its children do not stay behind
	s.answer = func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, "postgres://postgres@"+s.Host+"/postgres?sslmode=disable")
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
	s.serve()
	return s
}

// MariaDBServer starts a MariaDB with the user root and no password.
func MariaDBServer(tb testing.TB) *Server {
	tb.Helper()
	s, as := newServer(tb, "mysql", "mysql")
	install := newestProgram(tb, "mysql", "mariadb-install-db", "/usr/bin/mariadb-install-db")
	server := newestProgram(tb, "mysql", "mariadbd", "/usr/sbin/mariadbd")
	data := "--datadir=" + s.path("data")
	s.prepare(s.command(as, install, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db"))
	s.run = func() *exec.Cmd {
		return s.command(as, server, "--no-defaults", data, "--bind-address=127.0.0.1", "--port="+s.port(), "--socket="+s.path("socket"),
			"--pid-file="+s.path("pid"), "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=64M", "--max-connections=200")
	}
	s.answer = func(ctx context.Context) error {
		return s.talk(ctx, "", func(r *bufio.Reader) error { // the greeting: a header of four bytes, then the protocol's version
			hello := make([]byte, 5)
			if _, err := io.ReadFull(r, hello); err != nil || hello[4] != 10 {
				return fmt.Errorf("greeting % x, %w", hello, err)
			}
			return nil
		})
	}
	s.serve()
	return s
}

// RedisServer starts a Redis that appends every answered write to its file.
func RedisServer(tb testing.TB) *Server {
	tb.Helper()
	s, as := newServer(tb, "redis", "redis")
	program := newestProgram(tb, "redis", "redis-server", "/usr/bin/redis-server")
	s.run = func() *exec.Cmd {
		return s.command(as, program, "--bind", "127.0.0.1", "--port", s.port(), "--dir", s.dir, "--save", "",
			"--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--daemonize", "no")
	}
	s.answer = func(ctx context.Context) error {
		return s.talk(ctx, "PING\r\n", func(r *bufio.Reader) error {
			if line, err := r.ReadString('\n'); err != nil || line != "+PONG\r\n" {
				return fmt.Errorf("%q, %w", line, err)
			}
			return nil
		})
	}
	s.serve()
	return s
}

// talk connects, says something, and lets listen read the answer.
func (s *Server) talk(ctx context.Context, say string, listen func(*bufio.Reader) error) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Host)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := io.WriteString(conn, say); err != nil {
		return err
	}
	return listen(bufio.NewReader(conn))
}

// newestProgram finds a program where Debian puts it, of several versions the
// highest, or by the search path.
func newestProgram(tb testing.TB, backend, name, pattern string) string {
	tb.Helper()
	found, _ := filepath.Glob(pattern)
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	best := ""
	for _, path := range found {
		if best == "" || version(path) > version(best) {
			best = path
		}
	}
	if best == "" {
		var err error
		if best, err = exec.LookPath(name); err != nil {
			testdb.LeaveOut(tb, backend, err)
		}
	}
	return best
}
