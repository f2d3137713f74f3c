package cli

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
)

// helpWidth is for terminals as narrow as they are usually.
const helpWidth = 78

// narrow breaks the long texts of a tree's help into lines of helpWidth.
func narrow(cmd *cobra.Command) {
	cmd.Long = paragraphs(cmd.Long)
	for _, sub := range cmd.Commands() {
		narrow(sub)
	}
}

// paragraphs joins and breaks lines anew. One that is empty or indented stands for
// itself.
func paragraphs(long string) string {
	var out, open []string
	flush := func() {
		if len(open) > 0 {
			out = append(out, text.WrapSoft(strings.Join(open, " "), helpWidth))
			open = nil
		}
	}
	for line := range strings.SplitSeq(long, "\n") {
		if line == "" || line[0] == ' ' {
			flush()
			out = append(out, line)
			continue
		}
		open = append(open, line)
	}
	flush()
	lines := strings.Split(strings.Join(out, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
