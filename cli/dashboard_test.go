package cli_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/cli"
	"github.com/gosequencer/sequencer/storage/memory"
)

// serveDashboard runs the command until the test is done with it, and returns its
// address and what ends it.
func serveDashboard(t *testing.T, args ...string) (address string, stop func() int) {
	t.Helper()
	reg := sequencer.NewRegistry()
	sequencer.RegisterFunc(reg, "report", func(context.Context) error { return nil })
	seq, err := sequencer.New(memory.New(), reg, sequencer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := seq.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	code := make(chan int, 1)
	var talk strings.Builder
	go func() {
		code <- cli.Main(ctx, seq, append([]string{"dashboard", "--listen", "127.0.0.1:0"}, args...), strings.NewReader(""), write, &talk)
		write.Close()
	}()
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatalf("%v: exit code %d: %s", err, <-code, talk.String())
	}
	return strings.TrimSpace(line), func() int {
		cancel()
		return <-code
	}
}

func TestTheCommandServesTheDashboardUntilItIsStopped(t *testing.T) {
	address, stop := serveDashboard(t, "--prefix", "/ops", "--allow", "pause,resume")
	if !strings.HasPrefix(address, "http://127.0.0.1:") || !strings.HasSuffix(address, "/ops/") {
		t.Fatalf("it serves at %q", address)
	}
	get := func(path string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return http.DefaultTransport.RoundTrip(r)
	}
	page, err := get("operations/report")
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	body, _ := io.ReadAll(page.Body)
	if !strings.Contains(string(body), `value="pause"`) || page.StatusCode != http.StatusOK {
		t.Errorf("%s %.300s", page.Status, body)
	}
	// A stream that somebody looks at keeps nothing alive.
	stream, err := get("live?at=" + url.QueryEscape("/"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	began := time.Now()
	if code := stop(); code != 0 || time.Since(began) > 5*time.Second {
		t.Errorf("it ended after %s with code %d", time.Since(began), code)
	}
	if _, err := get(""); err == nil {
		t.Error("it is still there")
	}
}

func TestTheCommandServesNoOtherMachineWithoutCredentials(t *testing.T) {
	for _, c := range []struct {
		name, password string
		args           []string
		want           string
	}{
		{"open", "", []string{"--listen", ":0"}, "is open to other machines"},
		{"an address of the network", "", []string{"--listen", "0.0.0.0:0"}, "is open to other machines"},
		{"no password", "", []string{"--user", "ada"}, "needs a password"},
		{"nobody", "secret", nil, "give --user too"},
		{"unknown action", "", []string{"--allow", "destroy"}, `no action "destroy"`},
	} {
		t.Setenv("SEQUENCER_DASHBOARD_PASSWORD", c.password)
		seq, err := sequencer.New(memory.New(), nil, sequencer.Config{})
		if err != nil {
			t.Fatal(err)
		}
		var out, talk strings.Builder
		code := cli.Main(t.Context(), seq, append([]string{"dashboard"}, c.args...), strings.NewReader(""), &out, &talk)
		if code == 0 || !strings.Contains(talk.String(), c.want) {
			t.Errorf("%s: code %d: %s", c.name, code, talk.String())
		}
	}
	t.Setenv("SEQUENCER_DASHBOARD_PASSWORD", "correct horse")
	address, stop := serveDashboard(t, "--user", "ada", "--prefix", "/ops")
	defer stop()
	for path, want := range map[string]string{"/livez": `"ok":true`, "/readyz": `"ledger":"ok"`} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(address, "/ops/")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "10.1.2.3:8321" // as an orchestrator asks, without a password
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s %.300s", path, answer.Status, body)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]int{"correct horse": http.StatusOK, "horse": http.StatusUnauthorized} {
		r.SetBasicAuth("ada", password)
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%q: %s", password, answer.Status)
		}
	}
}
