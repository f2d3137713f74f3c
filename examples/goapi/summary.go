package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// summaryCommand stands beside the library's commands.
func (a *app) summaryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "summary",
		Short: "Print what the database holds; with --json the counts alone",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			if err := a.connect(ctx); err != nil {
				return err
			}
			if !a.json() {
				return a.printReport(ctx, out)
			}
			s, err := readSummary(ctx, a.db)
			if err != nil {
				return fmt.Errorf("nothing has been imported yet, run \"process\" first (%w)", err)
			}
			return json.NewEncoder(out).Encode(s)
		},
	}
}

// printReport prints what the last operation wrote.
func (a *app) printReport(ctx context.Context, out io.Writer) error {
	var text string
	if err := a.db.QueryRowContext(ctx, "SELECT text FROM report").Scan(&text); err != nil {
		return fmt.Errorf("there is no report yet, run \"process\" first (%w)", err)
	}
	_, err := io.WriteString(out, text)
	return err
}

// querier is what a transaction and a handle have in common: the report is made
// inside an operation and the summary outside.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// summary holds no times, so that two histories which should have led to the same
// can be compared.
type summary struct {
	Releases int `json:"releases"`
	Features int `json:"features"`
	Packages int `json:"packages"`
}

func readSummary(ctx context.Context, q querier) (s summary, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT (SELECT count(*) FROM releases), (SELECT count(*) FROM features), (SELECT count(*) FROM packages)`).
		Scan(&s.Releases, &s.Features, &s.Packages)
	return s, err
}

// renderReport makes the report, from the tables of the operations before.
func renderReport(ctx context.Context, q querier) (string, error) {
	s, err := readSummary(ctx, q)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Go's public API: %d releases, %d features, %d packages\n", s.Releases, s.Features, s.Packages)

	// A symbol that exists on ten platforms is ten features.
	err = list(ctx, q, &text, `
Per year:
   year   symbols  features`, `
		SELECT format('%7d %9d %9d', year, count(DISTINCT package || ' ' || symbol), count(*))
		FROM features JOIN releases ON minor = release
		GROUP BY year ORDER BY year`)
	if err != nil {
		return "", err
	}
	err = list(ctx, q, &text, fmt.Sprintf(`
The ten packages that grew fastest, by features added in the last %d releases:
  added       all  package`, recentReleases), `
		SELECT format('%7d %9d  %s', recent, features, package)
		FROM growth WHERE recent > 0
		ORDER BY recent DESC, package LIMIT 10`)
	return text.String(), err
}

// list prints a heading and the rows of a query that makes lines of text.
func list(ctx context.Context, q querier, text *strings.Builder, heading, query string) error {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	fmt.Fprintln(text, heading)
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		fmt.Fprintln(text, line)
	}
	return rows.Err()
}
