package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
)

// answerCommand is approve or reject.
type answerCommand struct {
	reason string
	done   string // the word for it
	answer func(ctx context.Context, seq *sequencer.Sequencer, nameOrID, reason string) (sequencer.Approval, error)
}

// noBoundary stands in the help of both.
const noBoundary = "\n\nWhoever may write to the ledger can answer, under any name (SEQUENCER_ACTOR): the command records a claim\n" +
	"and proves nobody's identity. An application whose own command this is decides who may."

func newApprove(a *app) *cobra.Command {
	c := &answerCommand{done: "approved", answer: func(ctx context.Context, seq *sequencer.Sequencer, nameOrID, reason string) (sequencer.Approval, error) {
		return seq.Approve(ctx, nameOrID, reason)
	}}
	cmd := c.command(a)
	cmd.Use, cmd.Short = "approve NAME|ID", "Let what waits for an approval run"
	cmd.Long = "Approves what waits, named by the id of the approval or of the execution, or by its operation if one of it\n" +
		"waits. An operation with a timestamp may be approved before it is asked for: that counts until it has ended\n" +
		"once." + noBoundary
	cmd.Example = "  " + a.root.Name() + ` approve 20240101000000_drop_users --reason "backup is verified"`
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the ledger")
	return cmd
}

func newReject(a *app) *cobra.Command {
	c := &answerCommand{done: "rejected", answer: func(ctx context.Context, seq *sequencer.Sequencer, nameOrID, reason string) (sequencer.Approval, error) {
		return seq.Reject(ctx, nameOrID, reason)
	}}
	cmd := c.command(a)
	cmd.Use, cmd.Short = "reject NAME|ID", "Have what waits for an approval fail"
	cmd.Long = "Rejects what waits, named as for approve. It fails for good, as it would by an error of its own: a run stops,\n" +
		"and undoes what it did if it does that. A retry, or the next run, asks again." + noBoundary
	cmd.Example = "  " + a.root.Name() + ` reject 20240101000000_drop_users --reason "not on a Friday"`
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the ledger (required)")
	return cmd
}

func (c *answerCommand) command(a *app) *cobra.Command {
	return &cobra.Command{Args: takes("NAME|ID"), RunE: a.with(c.body)}
}

func (c *answerCommand) body(ctx context.Context, s *session) error {
	if c.done == "rejected" && c.reason == "" {
		return usagef("--reason is missing: say why it is rejected")
	}
	a, err := c.answer(ctx, s.Seq, s.args[0], c.reason)
	if err != nil {
		return err
	}
	if s.json {
		s.document(a)
		return nil
	}
	s.printf("%s is %s.", a.Name, c.done)
	return nil
}

// approvalLines lists what waits for a person.
func approvalLines(u *ui, st *state) {
	for _, a := range st.approvals {
		asked := "asked for by " + a.AskedBy
		if a.Execution == "" {
			asked += ", which does not wait at the moment"
		}
		u.printf("  %s  by %s since %s (%s), %s", a.Name, a.By, stamp(a.Since), wording.Roughly(time.Since(a.Since)), asked)
		u.printf("    %s", a.ID)
	}
}
