package browsertest

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/internal/showcase"
	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/seal"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

var migrations = fstest.MapFS{
	"20260101080000_create_countries.sql": {Data: []byte("-- +goose Up\ncreate table countries (code text primary key);\n-- +goose Down\ndrop table countries;\n")},
	"20260301090000_create_prices.sql":    {Data: []byte("-- +goose Up\ncreate table prices (id integer primary key);\n-- +goose Down\ndrop table prices;\n")},
}

// screen is a browser that looks at a dashboard.
type screen struct {
	*showcase.Show

	t      *testing.T
	ctx    context.Context // of its tab
	server *httptest.Server
	prefix string
	folder string

	mu       sync.Mutex // guards what follows
	problems []string   // exceptions of scripts, and what the console was told
}

// onBackends runs a test on SQLite and on PostgreSQL.
func onBackends(t *testing.T, test func(t *testing.T, s *screen)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		store, err := sqlite.Open(t.Context(), testdb.SQLite(t), sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		db, err := store.DB()
		if err != nil {
			t.Fatal(err)
		}
		source, err := goose.New(goose.SQLite, db, migrations, goose.Options{Tx: sqlite.Tx})
		if err != nil {
			t.Fatal(err)
		}
		test(t, open(t, showcase.Open(t, store, ring(t), func(c *sequencer.Config) { c.Migrations = source }), "sqlite"))
	})
	t.Run("postgres", func(t *testing.T) {
		store, err := postgres.Open(t.Context(), testdb.Postgres(t), postgres.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		source, err := goose.New(goose.Postgres, store.DB(), migrations, goose.Options{Tx: postgres.SQLTx})
		if err != nil {
			t.Fatal(err)
		}
		test(t, open(t, showcase.Open(t, store, ring(t), func(c *sequencer.Config) { c.Migrations = source }), "postgres"))
	})
}

func ring(t *testing.T) *seal.Ring {
	t.Helper()
	file, err := seal.NewFile("2026-01")
	if err != nil {
		t.Fatal(err)
	}
	ring, err := file.Ring()
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// browser is the program, or the end of the test.
func browser(t *testing.T) string {
	t.Helper()
	name := cmp.Or(os.Getenv("SEQUENCER_TEST_CHROMIUM"), "chromium")
	path, err := exec.LookPath(name)
	if err != nil {
		testdb.LeaveOut(t, "chromium", err)
	}
	return path
}

func open(t *testing.T, show *showcase.Show, name string) *screen {
	t.Helper()
	s := &screen{Show: show, t: t, prefix: "/admin/sequencer"}
	handler, err := dashboard.New(show.Sequencer, dashboard.Options{
		Prefix: s.prefix, Title: "Sequencer", Allow: dashboard.Actions(), Refresh: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(s.prefix+"/", handler)
	s.server = httptest.NewServer(mux)
	t.Cleanup(s.server.CloseClientConnections)

	s.folder = os.Getenv("SEQUENCER_TEST_SCREENSHOTS")
	if s.folder == "" {
		s.folder = t.ArtifactDir()
	}
	s.folder = filepath.Join(s.folder, name)
	if err := os.MkdirAll(s.folder, 0o755); err != nil {
		t.Fatal(err)
	}

	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(browser(t)), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
	ctx, endBrowser := chromedp.NewExecAllocator(ctx, options...)
	ctx, endTab := chromedp.NewContext(ctx)
	s.ctx = ctx
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Logf("closing the browser: %v", err)
		}
		endTab()
		endBrowser()
		cancel()
	})
	s.must(chromedp.Do(s.ctx))
	s.must(chromedp.Listen(s.ctx, func(event any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			s.problems = append(s.problems, e.ExceptionDetails.Text)
		case *log.EventEntryAdded: // what the policy of the page forbids stands here
			if e.Entry.Level == log.EntryLevelError {
				s.problems = append(s.problems, e.Entry.Text+" "+e.Entry.URL)
			}
		}
	}))
	s.size(1360, 900)
	return s
}

func (s *screen) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// size is that of the window.
func (s *screen) size(wide, high int64) {
	s.t.Helper()
	s.must(chromedp.Do(s.ctx, chromedp.EmulateViewport(wide, high)))
}

// scheme is the one that the reader prefers: light or dark.
func (s *screen) scheme(name string) {
	s.t.Helper()
	_, err := chromedp.Call(s.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
	s.must(err)
}

// scripts switches them on or off.
func (s *screen) scripts(on bool) {
	s.t.Helper()
	_, err := chromedp.Call(s.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
	s.must(err)
}

// visit opens a page.
func (s *screen) visit(path string) {
	s.t.Helper()
	s.must(chromedp.Do(s.ctx, chromedp.Navigate(s.server.URL+s.prefix+path), chromedp.WaitReady(chromedp.CSS("h1"))))
}

// picture keeps what is on the screen.
func (s *screen) picture(name string) {
	s.t.Helper()
	shot, err := chromedp.Run(s.ctx, chromedp.FullScreenshot(100))
	s.must(err)
	s.must(os.WriteFile(filepath.Join(s.folder, name+".png"), shot, 0o644))
}

// asked is the value of an expression on the page.
func asked[T any](s *screen, expression string) T {
	s.t.Helper()
	got, err := chromedp.Run(s.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		s.t.Fatalf("%s: %v", expression, err)
	}
	return got
}

// text is all that is to be read on the page.
func (s *screen) text() string {
	s.t.Helper()
	got, err := chromedp.Run(s.ctx, chromedp.Text(chromedp.CSS("body")))
	s.must(err)
	return got
}

func (s *screen) click(css string) {
	s.t.Helper()
	s.must(chromedp.Do(s.ctx, chromedp.Click(chromedp.CSS(css))))
}

// fill opens the form of an action, gives a reason, and sends it; the answer is what the
// next page says.
func (s *screen) fill(form, reason string) string {
	s.t.Helper()
	if asked[bool](s, `document.querySelector('`+form+`') === null`) {
		s.t.Fatalf("there is no form %s on %s", form, asked[string](s, "location.href"))
	}
	if strings.HasPrefix(form, "details") {
		s.click(form + " > summary")
		s.until(`document.querySelector('` + form + `').open`) // what is in a closed one has a box too
	}
	s.must(chromedp.Do(s.ctx,
		chromedp.WaitVisible(chromedp.CSS(form+` input[name=reason]`)),
		chromedp.SendKeys(chromedp.CSS(form+` input[name=reason]`), reason),
		chromedp.Click(chromedp.CSS(form+` button`)),
		chromedp.WaitVisible(chromedp.CSS(".notice"))))
	said, err := chromedp.Run(s.ctx, chromedp.Text(chromedp.CSS(".notice")))
	s.must(err)
	return said
}

// clean fails if a script had trouble.
func (s *screen) clean() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.problems) > 0 {
		s.t.Errorf("scripts had trouble: %s", strings.Join(s.problems, "\n"))
	}
}
