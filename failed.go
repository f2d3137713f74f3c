package sequencer

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Failed lists failed executions that sel selects, those dispatched last first; the
// zero Selection selects all of them.
func (s *Sequencer) Failed(ctx context.Context, sel Selection) ([]storage.Execution, error) {
	if err := sel.possible(); err != nil {
		return nil, err
	}
	all := []storage.Execution{}
	err := s.each(ctx, sel, haveFailed, func(rows []storage.Execution) error {
		all = append(all, rows...)
		return nil
	})
	return all, err
}

// FailureGroup is what failed executions with equal causes have in common: operation,
// type of the error, and its text without numbers and quoted parts.
type FailureGroup struct {
	Group string     `json:"group"`
	Name  string     `json:"name"`
	Count int        `json:"count"`
	Error string     `json:"error"` // of the latest
	ID    storage.ID `json:"id"`    // the latest
	First time.Time  `json:"first"` // when the first of them failed
	Last  time.Time  `json:"last"`
}

// FailureGroups groups what sel selects, the most frequent cause first. It reads
// every failed execution that the selection may have.
func (s *Sequencer) FailureGroups(ctx context.Context, sel Selection) ([]FailureGroup, error) {
	if err := sel.possible(); err != nil {
		return nil, err
	}
	at := map[string]int{}
	groups := []FailureGroup{}
	err := s.each(ctx, sel, haveFailed, func(rows []storage.Execution) error {
		for i := range rows {
			row := &rows[i]
			n, known := at[row.ErrorGroup+" "+row.Name]
			if !known {
				n = len(groups)
				at[row.ErrorGroup+" "+row.Name] = n
				groups = append(groups, FailureGroup{Group: row.ErrorGroup, Name: row.Name, First: row.FinishedAt})
			}
			g := &groups[n]
			g.Count++
			if !row.FinishedAt.Before(g.Last) {
				g.Last, g.Error, g.ID = row.FinishedAt, row.LastError, row.ID
			}
			if row.FinishedAt.Before(g.First) {
				g.First = row.FinishedAt
			}
		}
		return nil
	})
	slices.SortStableFunc(groups, func(a, b FailureGroup) int {
		return cmp.Or(b.Count-a.Count, b.Last.Compare(a.Last), cmp.Compare(a.Name, b.Name))
	})
	return groups, err
}
