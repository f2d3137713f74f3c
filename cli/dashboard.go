package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/health"
)

// passwordVariable has the password of --user: on the command line everybody on the
// machine could read it.
const passwordVariable = "SEQUENCER_DASHBOARD_PASSWORD"

// dashboardCommand serves the dashboard until it is stopped.
type dashboardCommand struct {
	listen string
	user   string
	allow  []string
	o      dashboard.Options
}

func newDashboard(a *app) *cobra.Command {
	c := &dashboardCommand{}
	cmd := &cobra.Command{
		Use:   "dashboard",
		Short: "Show the ledger in a browser",
		Long: "Serves the dashboard until it is stopped: deploys, approvals, operations, executions, flows, failures, queues, schedules,\n" +
			"workers, limits and the audit log, live. It answers this machine alone, unless --user names who may look, with\n" +
			"the password in " + passwordVariable + "; put TLS in front of it then. Nobody can change anything unless\n" +
			"--allow says what: " + strings.Join(actionNames(), ", ") + ", or all.\n\n" +
			"/livez and /readyz answer the probes of an orchestrator of containers, without a password and at the root\n" +
			"whatever --prefix says: is it alive, and can the ledger be read.",
		Example: "  " + a.root.Name() + " dashboard\n" +
			"  " + a.root.Name() + " dashboard --allow retry,cancel,pause,resume\n" +
			"  " + passwordVariable + "=… " + a.root.Name() + " dashboard --listen :8321 --user ops --allow all",
		Args: takes(),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	f.StringVar(&c.listen, "listen", "127.0.0.1:8321", "address and port; another machine's requests need --user")
	f.StringVar(&c.o.Prefix, "prefix", "", "path that it is served under, as in /sequencer")
	f.StringVar(&c.o.Title, "title", "", `what stands on every page (default "Sequencer")`)
	f.StringVar(&c.user, "user", "", "who may look, with the password in "+passwordVariable)
	f.StringSliceVar(&c.allow, "allow", nil, "actions that people may do, separated by commas; all for all of them")
	f.DurationVar(&c.o.Refresh, "refresh", dashboard.DefaultRefresh, "how often a page that somebody looks at is read anew")
	return cmd
}

func actionNames() []string {
	names := []string{}
	for _, a := range dashboard.Actions() {
		names = append(names, string(a))
	}
	return names
}

func (c *dashboardCommand) body(ctx context.Context, s *session) error {
	if err := c.read(); err != nil {
		return &usageError{err}
	}
	handler, err := dashboard.New(s.Seq, c.o)
	if err != nil {
		return &usageError{err}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.listen)
	if err != nil {
		return err
	}
	address := fmt.Sprintf("http://%s%s/", hostOf(listener.Addr()), strings.TrimRight(c.o.Prefix, "/"))
	if s.json {
		s.document(map[string]string{"url": address})
	} else {
		s.printf("%s", address)
	}
	server := dashboardServer(ctx, probed(s.Seq, handler))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// What a person began is finished; the streams have ended already.
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = server.Shutdown(patience)
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// probed answers the probes of an orchestrator before anybody is asked who they are: they
// come from another machine, have no password, and are told nothing that is secret.
func probed(seq *sequencer.Sequencer, next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /livez", health.Live())
	mux.Handle("GET /readyz", health.Ready(seq, health.Options{}))
	mux.Handle("/", next)
	return mux
}

// dashboardServer waits for no client for ever; streams of changes and actions have
// deadlines of their own. Streams end with ctx.
func dashboardServer(ctx context.Context, handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
}

// read makes options of the flags.
func (c *dashboardCommand) read() error {
	for _, name := range c.allow {
		if name = strings.TrimSpace(name); name == "all" {
			c.o.Allow = append(c.o.Allow, dashboard.Actions()...)
		} else if name != "" {
			c.o.Allow = append(c.o.Allow, dashboard.Action(name))
		}
	}
	password := os.Getenv(passwordVariable)
	switch {
	case c.user != "" && password == "":
		return fmt.Errorf("--user %s needs a password in %s", c.user, passwordVariable)
	case c.user != "":
		c.o.Credentials = map[string]string{c.user: password}
	case password != "":
		return fmt.Errorf("there is a password in %s, and nobody it is of: give --user too", passwordVariable)
	case !onlyHere(c.listen):
		return fmt.Errorf("--listen %s is open to other machines: give --user and a password in %s, or listen on 127.0.0.1", c.listen, passwordVariable)
	}
	return nil
}

// onlyHere reports an address that other machines do not reach.
func onlyHere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // listening says what is wrong with it
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// hostOf is an address for people to open: all of a machine's is its own name.
func hostOf(addr net.Addr) string {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil || !at.Addr().IsUnspecified() {
		return addr.String()
	}
	return fmt.Sprintf("localhost:%d", at.Port())
}
