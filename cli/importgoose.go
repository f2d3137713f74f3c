package cli

import (
	"context"
	"errors"

	"github.com/gosequencer/sequencer/storage"
)

// readGoose takes what the migrations' source lists as applied. goose's table
// needs no import to count; this gives the ledger's history its rows.
func readGoose(ctx context.Context, s *session) (findings, error) {
	source := s.Seq.Config().Migrations
	if source == nil {
		return findings{}, errors.New("no migrations are configured: give their directory")
	}
	list, err := source.Migrations(ctx)
	if err != nil {
		return findings{}, err
	}
	var found findings
	for _, m := range list {
		if m.Applied() {
			found.rows = append(found.rows, storage.Execution{
				Name: m.Name, Kind: storage.Migration, Method: "goose",
				CreatedAt: m.AppliedAt, StartedAt: m.AppliedAt, FinishedAt: m.AppliedAt,
			})
		}
	}
	return found, nil
}
