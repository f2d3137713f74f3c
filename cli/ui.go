package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// ui is where a command reads and writes. stdout carries the answer, stderr the
// talk.
type ui struct {
	name     string // of the root command, as hints call it
	in       io.Reader
	out      *answer
	err      io.Writer
	json     bool
	verbose  bool
	color    bool // on stdout
	live     bool // stdout is a terminal that lines can be rewritten on
	answered bool // a JSON document was printed
	columns  int  // of what out is a part of; 0 = as wide as out's terminal
}

func newUI(a *app, cmd *cobra.Command) *ui {
	u := &ui{
		name: a.root.CommandPath(), json: a.json, verbose: a.verbose,
		in: cmd.InOrStdin(), out: &answer{Writer: cmd.OutOrStdout()}, err: cmd.ErrOrStderr(),
	}
	terminal := isTerminal(u.out.Writer) && os.Getenv("TERM") != "dumb"
	u.live = terminal && !u.json
	u.color = u.live && !a.noColor && os.Getenv("NO_COLOR") == ""
	return u
}

// answer remembers the first error of writing it.
type answer struct {
	io.Writer
	err error
}

func (a *answer) Write(p []byte) (int, error) {
	n, err := a.Writer.Write(p)
	if a.err == nil {
		a.err = err
	}
	return n, err
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// width is the terminal's, on which live lines are drawn.
func (u *ui) width() int {
	if u.columns > 0 {
		return u.columns
	}
	if f, ok := u.out.Writer.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			return w
		}
	}
	return 80
}

// sayf writes a line of talk.
func (u *ui) sayf(format string, args ...any) { fmt.Fprintf(u.err, format+"\n", args...) }

// fail writes an error, its first line marked.
func (u *ui) fail(message string) {
	u.sayf("error: %s", strings.ReplaceAll(message, "\n", "\n       "))
}

// printf writes a line of the answer; with --json the document is the answer.
func (u *ui) printf(format string, args ...any) {
	if !u.json {
		fmt.Fprintf(u.out, format+"\n", args...)
	}
}

// document writes the answer as JSON.
func (u *ui) document(v any) {
	u.answered = true
	enc := json.NewEncoder(u.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil && u.out.err == nil {
		u.out.err = err
	}
}

// table writes rows in columns under a header.
func (u *ui) table(header []string, rows [][]string) {
	for _, line := range u.lines(header, rows) {
		u.printf("  %s", line)
	}
}

// lines is a table's, the header's first.
func (u *ui) lines(header []string, rows [][]string) []string {
	t := table.NewWriter()
	t.SetStyle(table.StyleDefault)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", "  "
	t.SuppressTrailingSpaces()
	t.AppendHeader(row(header))
	for _, r := range rows {
		t.AppendRow(row(r))
	}
	lines := strings.Split(t.Render(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// cut shortens a text to a width.
func cut(s string, width int) string { return text.Snip(s, max(width, 1), "…") }

// fits reports whether a table of these is as narrow as the terminal; without one
// there is no limit.
func (u *ui) fits(header []string, rows [][]string) bool {
	if !u.live {
		return true
	}
	wide := 0
	for i, h := range header {
		most := len(h)
		for _, r := range rows {
			most = max(most, text.StringWidthWithoutEscSequences(r[i]))
		}
		wide += most + 2 //nolint:mnd // the gap between columns
	}
	return wide <= u.width()
}

// stack writes each row as lines of its own, what is empty left out.
func (u *ui) stack(header []string, rows [][]string) {
	for _, r := range rows {
		for i, cell := range r {
			if cell != "" {
				u.printf("  %-14s  %s", header[i], cell)
			}
		}
		u.printf("")
	}
}

func row(cells []string) table.Row {
	r := make(table.Row, len(cells))
	for i, c := range cells {
		r[i] = cmp.Or(c, "-")
	}
	return r
}

// confirm asks before something that cannot be taken back. Where nobody can
// answer, --yes must.
func (u *ui) confirm(ctx context.Context, yes bool, format string, args ...any) error {
	if yes {
		return nil
	}
	if !isTerminal(u.in) {
		return usagef("%s needs --yes where nobody can be asked", fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(u.err, format+"? [y/N] ", args...)
	said := make(chan string, 1)
	go func() { // a read cannot be interrupted; the process ends with it
		line, _ := bufio.NewReader(u.in).ReadString('\n') // no answer is no
		said <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case line := <-said:
		if line == "y" || line == "yes" {
			return nil
		}
		return errors.New("cancelled")
	}
}

// logger writes to stderr, with -v only.
func (u *ui) logger() *slog.Logger {
	if !u.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(u.err, nil))
}

type style string

const (
	plain  style = ""
	bold   style = "\x1b[1m"
	dim    style = "\x1b[2m"
	red    style = "\x1b[31m"
	green  style = "\x1b[32m"
	yellow style = "\x1b[33m"
	cyan   style = "\x1b[36m"
)

func (u *ui) paint(s style, text string) string {
	if !u.color || s == plain || text == "" {
		return text
	}
	return string(s) + text + "\x1b[0m"
}

// stamp is an instant in UTC, to the second.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
