package prometheus_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"go.yaml.in/yaml/v2"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/telemetry/prometheus"
)

func open(t *testing.T, c *prometheus.Collector, store storage.Store) *sequencer.Sequencer {
	t.Helper()
	reg := sequencer.NewRegistry()
	sequencer.RegisterFunc(reg, "mail", func(context.Context) error { return nil })
	sequencer.RegisterFunc(reg, "fails", func(context.Context) error { return errors.New("boom") })
	sequencer.RegisterFunc(reg, "20240101000000_seed", func(context.Context) error { return nil })
	seq, err := sequencer.New(store, reg, sequencer.Config{
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Observers: []sequencer.Observer{c.Observe},
	})
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func want(t *testing.T, c *prometheus.Collector, lines ...string) {
	t.Helper()
	r := client.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(families))
	for i, f := range families {
		names[i] = f.GetName()
	}
	text, err := testutil.CollectAndFormat(c, expfmt.TypeTextPlain, names...)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if !slices.Contains(strings.Split(string(text), "\n"), line) {
			t.Errorf("it does not say %q:\n%s", line, text)
		}
	}
	if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestItCountsWhatThisProcessDidAndTellsWhatTheLedgerHolds(t *testing.T) {
	t.Parallel()
	c := prometheus.New(prometheus.Options{})
	seq := open(t, c, memory.New())
	want(t, c) // before it knows a ledger
	c.Watch(seq)
	ctx := t.Context()
	for _, name := range []string{"mail", "mail", "fails"} {
		if _, err := seq.Dispatch(ctx, sequencer.Named(name, nil)); err != nil {
			t.Fatal(err)
		}
	}
	want(t, c,
		`sequencer_up 1`, `sequencer_dispatched_total{operation="mail"} 2`,
		`sequencer_queue_executions{queue="default",state="ready"} 3`, `sequencer_queue_workers{queue="default"} 0`,
		`sequencer_queue_paused{queue="default"} 0`, `sequencer_workers 0`,
		`sequencer_deploy_ready 0`, `sequencer_deploy_tasks{state="pending"} 1`)
	if err := seq.Pause(ctx, storage.PauseQueue, "default", "test"); err != nil {
		t.Fatal(err)
	}
	want(t, c, `sequencer_queue_paused{queue="default"} 1`)
	if err := seq.Resume(ctx, storage.PauseQueue, "default", "test"); err != nil {
		t.Fatal(err)
	}
	if err := seq.Work(ctx, sequencer.WorkerConfig{StopWhenEmpty: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := seq.Process(ctx, sequencer.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	want(t, c,
		`sequencer_executions_total{operation="mail",outcome="completed"} 2`,
		`sequencer_executions_total{operation="fails",outcome="failed"} 1`,
		`sequencer_attempt_duration_seconds_count{operation="mail",outcome="completed"} 2`,
		`sequencer_runs_total{outcome="completed"} 1`, `sequencer_deploy_ready 1`, `sequencer_deploy_tasks{state="pending"} 0`)
}

func TestALedgerThatDoesNotAnswerIsDownAndNothingElse(t *testing.T) {
	t.Parallel()
	store := memory.New()
	c := prometheus.New(prometheus.Options{Labels: map[string]string{"app": "shop"}})
	seq := open(t, c, store)
	c.Watch(seq)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, c, `sequencer_up{app="shop"} 0`)
	if n := testutil.CollectAndCount(c); n != 1 {
		t.Errorf("%d metrics of a ledger that does not answer, want 1", n)
	}
}

// What the files beside the collector ask for exists, with these labels.
func TestTheDashboardAndTheAlertsAskForWhatThereIs(t *testing.T) {
	t.Parallel()
	described := make(chan *client.Desc, 100)
	prometheus.New(prometheus.Options{}).Describe(described)
	close(described)
	have := map[string][]string{}
	for d := range described {
		m := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([^}]*)\}`).FindStringSubmatch(d.String())
		have[m[1]] = append(strings.Split(m[2], ","), "job", "le")
	}
	text, err := os.ReadFile("grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	asked := map[string][]string{}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			asked["panel "+p.Title] = append(asked["panel "+p.Title], target.Expr)
		}
	}
	if text, err = os.ReadFile("alerts.yaml"); err != nil {
		t.Fatal(err)
	}
	var alerts struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalStrict(text, &alerts); err != nil {
		t.Fatal(err)
	}
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			asked["alert "+r.Alert] = []string{r.Expr}
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("alert %s does not say how severe it is, what is wrong or what to do", r.Alert)
			}
		}
	}
	if len(asked) < 20 {
		t.Fatalf("%d panels and alerts: that shows nothing", len(asked))
	}
	used := map[string]bool{}
	for what, exprs := range asked {
		for _, expr := range exprs {
			for _, m := range regexp.MustCompile(`(sequencer_\w+)(?:\{([^}]*)\})?`).FindAllStringSubmatch(expr, -1) {
				name := m[1]
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					name = strings.TrimSuffix(name, suffix)
				}
				labels, ok := have[name]
				if !ok {
					t.Errorf("%s asks for %s, which there is not", what, m[1])
				}
				used[name] = true
				for _, label := range regexp.MustCompile(`(\w+)=`).FindAllStringSubmatch(m[2], -1) {
					if !slices.Contains(labels, label[1]) {
						t.Errorf("%s asks for the label %s of %s, which has %v", what, label[1], name, labels)
					}
				}
			}
		}
	}
	for name := range have {
		if !used[name] {
			t.Errorf("%s is neither on the dashboard nor in an alert", name)
		}
	}
}
