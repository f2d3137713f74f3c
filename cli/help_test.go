package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestTheHelpOfEveryCommandFitsANarrowTerminal(t *testing.T) {
	t.Parallel()
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if w := len(strings.TrimRight(line, "\n")); w > helpWidth && !strings.HasPrefix(line, " ") {
				t.Errorf("%s: %d columns: %s", cmd.Name(), w, line)
			}
		}
		if cmd.Short == "" || len(cmd.Short) > 64 {
			t.Errorf("%s: its short text %q has %d characters", cmd.Name(), cmd.Short, len(cmd.Short))
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(newApp("app", nil, nil).root)
}
