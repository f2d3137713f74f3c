package cli

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

// rekeyCommand seals anew what is still read, or counts what each key is needed for.
type rekeyCommand struct {
	dryRun bool
	reason string
}

func newRekey(a *app) *cobra.Command {
	c := &rekeyCommand{}
	cmd := &cobra.Command{
		Use:   "rekey",
		Short: "Encrypt again, with the present key, what is still needed",
		Long: "Encrypts again what waits or runs, and what may be retried or rolled back, with the key that encrypts\n" +
			"now. Workers go on meanwhile. It may be stopped and run again. --dry-run counts what each key is needed for:\n" +
			"a key that is not listed may be dropped.",
		Example: "  " + a.root.Name() + " rekey --dry-run\n" +
			"  " + a.root.Name() + ` rekey --reason "yearly rotation"`,
		Args: takes(),
		RunE: a.with(c.body),
	}
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "count per key, change nothing")
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the audit log")
	return cmd
}

func (c *rekeyCommand) body(ctx context.Context, s *session) error {
	if c.dryRun {
		return s.keys(ctx)
	}
	done, err := s.Seq.Rekey(ctx, c.reason)
	if err != nil {
		return err
	}
	if done.Failed > 0 {
		err = errors.New(strconv.Itoa(done.Failed) + " could not be opened and stay as they are: " + done.Unknown)
	} else if done.Missed > 0 {
		err = errors.New(strconv.Itoa(done.Missed) + " were changed by workers all the while: run it again")
	}
	if s.json {
		s.document(done)
	} else {
		s.printf("%d encrypted again with key %s, %d had it.", done.Changed, done.KeyID, done.Current)
	}
	return err
}

func (s *session) keys(ctx context.Context) error {
	uses, err := s.Seq.KeyUsage(ctx)
	if err != nil && !isMissingLedger(err) {
		return err
	}
	if s.json {
		s.document(map[string]any{"keys": append([]sequencer.KeyUse{}, uses...)})
		return nil
	}
	var rows [][]string
	for _, u := range uses {
		name, remark := u.KeyID, ""
		switch {
		case name == "":
			name, remark = "(in clear)", "rekey encrypts it"
		case u.Current:
			remark = "encrypts now"
		case u.Missing:
			remark = "not in this process's key ring"
		}
		rows = append(rows, []string{name, strconv.Itoa(u.Waiting), strconv.Itoa(u.Kept), remark})
	}
	if len(rows) == 0 {
		s.printf("Nothing is encrypted.")
		return nil
	}
	s.table([]string{"key", "waiting", "kept", "remark"}, rows)
	return nil
}
