package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A guide's block below <!-- file: PATH --> is a file, those below <!-- session --> are
// commands, each behind a "$ ", with what they print.
var (
	fileBlock    = regexp.MustCompile("(?s)<!-- file: (\\S+) -->\n```\\w+\n(.*?)```\n")
	sessionBlock = regexp.MustCompile("(?s)<!-- session -->\n```console\n(.*?)```\n")
)

// changing is what no two recordings have in common.
var changing = []struct {
	what *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d`), "DATE"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`\b\d[\d.]*(?:ms|s)\b`), "TOOK"},
}

func withoutChanging(text string) string {
	for _, c := range changing {
		text = c.what.ReplaceAllString(text, c.name)
	}
	return text
}

func TestTheRecordingInTheGuideIsWhatComesOut_S22_1_S10_6(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/guides/killed-while-undoing.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, m := range fileBlock.FindAllStringSubmatch(string(guide), -1) {
		path := filepath.Join(dir, m[1])
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(m[2]), 0o700)); err != nil { //nolint:gosec // scripts are to be run
			t.Fatal(err)
		}
	}
	var want, got strings.Builder
	for _, m := range sessionBlock.FindAllStringSubmatch(string(guide), -1) {
		want.WriteString(m[1])
		for line := range strings.Lines(m[1]) {
			if command, is := strings.CutPrefix(line, "$ "); is {
				got.WriteString(line + printed(t, dir, command))
			}
		}
	}
	if diff := cmp.Diff(withoutChanging(want.String()), withoutChanging(got.String())); diff != "" || want.Len() == 0 {
		t.Errorf("the recording (-guide +now):\n%s\nas it is now:\n%s", diff, got.String())
	}
}

// printed is what a terminal shows of a command.
func printed(t *testing.T, dir, command string) string {
	t.Helper()
	words := strings.Fields(command)
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SEQUENCER_DATABASE_URL=sqlite:app.db", "SEQUENCER_ACTOR=dana@office", "SEQUENCER_ENV=test", "GORACE=atexit_sleep_ms=0")
	text, err := cmd.CombinedOutput()
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && !failed {
		t.Fatal(err)
	}
	if failed && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL { // as a shell says it
		return string(text) + "Killed\n"
	}
	return string(text)
}
