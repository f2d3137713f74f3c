package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

func newValidate(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check everything that can be checked without running it",
		Long: "Checks names, policies and the dependency graph, against the migrations there are. Nothing is run or\n" +
			"written: made for CI. It also tells what it passed over.",
		Args: takes(),
		RunE: a.with(func(ctx context.Context, s *session) error {
			for _, n := range s.Notices {
				s.sayf("notice: %s", n)
			}
			if err := s.Seq.Validate(ctx); err != nil {
				return err
			}
			plan, err := s.Seq.Preview(ctx, sequencer.RunOptions{})
			if err == nil {
				err = s.check(ctx, plan.Tasks)
			}
			if err != nil {
				return err
			}
			if s.json {
				s.document(map[string]any{"valid": true, "notices": notNil(s.Notices)})
				return nil
			}
			s.printf("Valid.")
			return nil
		}),
	}
}
