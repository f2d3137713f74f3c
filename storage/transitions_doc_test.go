package storage_test

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/storage"
)

// ARCHITECTURE.md says the moves twice, as a list and as a drawing.
func TestArchitectureShowsTheTransitionsThatThereAre_I1_S5_5(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := moves(storage.Transitions)
	if diff := cmp.Diff(want, listed(t, fenced(t, text, "transitions"))); diff != "" {
		t.Errorf("the list of transitions (-code +document):\n%s", diff)
	}
	if diff := cmp.Diff(want, drawn(fenced(t, text, "mermaid"))); diff != "" {
		t.Errorf("the drawing of states (-code +document):\n%s", diff)
	}
}

// moves is a table of transitions as sorted lines.
func moves(table map[storage.State][]storage.State) []string {
	var all []string
	for from, tos := range table {
		for _, to := range tos {
			all = append(all, string(from)+" -> "+string(to))
		}
	}
	slices.Sort(all)
	return all
}

// listed reads lines of the form "from -> to to". Every state has a line.
func listed(t *testing.T, block string) []string {
	t.Helper()
	table := map[storage.State][]storage.State{}
	for line := range strings.Lines(block) {
		from, tos, ok := strings.Cut(strings.TrimSpace(line), "->")
		state := storage.State(strings.TrimSpace(from))
		if _, twice := table[state]; !ok || twice || !state.Known() {
			t.Errorf("%q: want one line for each state, as in \"pending -> running skipped\"", line)
			continue
		}
		table[state] = nil
		for to := range strings.FieldsSeq(tos) {
			table[state] = append(table[state], storage.State(to))
		}
	}
	for _, s := range storage.States {
		if _, ok := table[s]; !ok {
			t.Errorf("state %s has no line", s)
		}
	}
	return moves(table)
}

var arrow = regexp.MustCompile(`^\s*(\w+) --> (\w+)(?::.*)?$`)

// drawn reads the arrows of a diagram, without the one from its beginning.
func drawn(block string) []string {
	table := map[storage.State][]storage.State{}
	for line := range strings.Lines(block) {
		if m := arrow.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			from := storage.State(m[1])
			table[from] = append(table[from], storage.State(m[2]))
		}
	}
	return moves(table)
}

// fenced is the text of the one block in a language.
func fenced(t *testing.T, text []byte, language string) string {
	t.Helper()
	var block strings.Builder
	inside, found := false, 0
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case inside && line == "```":
			inside = false
		case inside:
			block.WriteString(line + "\n")
		case line == "```"+language:
			inside, found = true, found+1
		}
	}
	if found != 1 || lines.Err() != nil {
		t.Fatalf("ARCHITECTURE.md has %d blocks %q, want 1 (%v)", found, language, lines.Err())
	}
	return block.String()
}
