package scaffold

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// checkSQL refuses what only Go code can declare.
func (o *Options) checkSQL() error {
	if o.Test {
		return errors.New("--test is for Go operations, not for --sql")
	}
	for _, a := range Abilities {
		if o.has(a.Flag) && a.sql == "" {
			return fmt.Errorf("--%s is for Go operations, not for --sql", a.Flag)
		}
	}
	return nil
}

// writeSQL writes the statements' file and, with a rollback, a second one whose
// name keeps it from being an operation.
func (o *Options) writeSQL(w *writer, name string) {
	undo := "rollback_" + name + ".sql"
	var b strings.Builder
	for _, a := range o.chosen() {
		for line := range strings.SplitSeq(a.sql, "\n") {
			prefix := "-- sequencer: "
			if note, ok := strings.CutPrefix(line, "# "); ok { // for the writer to complete
				prefix, line = "-- Put sequencer: before it and complete it: ", note
			}
			b.WriteString(prefix + strings.ReplaceAll(line, "$R", undo) + "\n")
		}
	}
	b.WriteString("\n-- The statements run in one transaction together with the ledger's own row.\n")
	w.write(filepath.Join(o.Dir, name+".sql"), []byte(b.String()))
	if o.has("rollback") {
		w.write(filepath.Join(o.Dir, undo), []byte("-- Undoes "+name+".\n"))
	}
}
