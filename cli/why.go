package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
)

func newWhy(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "why NAME|ID",
		Short: "Say why an execution is not running, or what became of it",
		Long: "Names every reason that holds, the gravest first: it is paused, scheduled, waits for others or for a retry,\n" +
			"nobody serves its queue or knows its operation, others come first; or who runs it, or how it ended. By\n" +
			"name it is the operation's newest execution that is not over.",
		Example: "  " + a.root.Name() + " why 019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b\n" +
			"  " + a.root.Name() + " why sync_customer",
		Args: takes("NAME|ID"),
		RunE: a.with(func(ctx context.Context, s *session) error {
			answer, err := s.Seq.Why(ctx, s.args[0])
			if err != nil {
				return err
			}
			if s.json {
				s.document(answer)
				return nil
			}
			s.why(answer)
			return nil
		}),
	}
}

func (u *ui) why(a *sequencer.Answer) {
	e := &entriesOf(oneOf(a.Execution))[0]
	where := ""
	if q := wording.Queue(e.Queue); q != "" && !e.State.Over() {
		where = " in queue " + q
	}
	u.printf("%s  %s", u.paint(bold, e.Name), e.ID)
	u.printf("  %s%s", wording.State(&e.Execution), where)
	for _, r := range a.Reasons {
		u.printf("  %s", r.Text)
		if at := r.At; !at.IsZero() && (r.Kind == sequencer.ReasonOver || r.Kind == sequencer.ReasonRunning) {
			u.printf("    %s %s UTC", map[bool]string{true: "ended", false: "first started"}[r.Kind == sequencer.ReasonOver], stamp(at))
		}
	}
}

func oneOf[T any](x T) []T { return []T{x} }
