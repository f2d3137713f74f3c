package cli

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer/storage"
)

// importCommand adopts what other tools have done, as finished executions.
type importCommand struct {
	driver string
	table  string
	dryRun bool
	yes    bool
}

func newImport(a *app) *cobra.Command {
	c := &importCommand{}
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Adopt what another tool has done",
		Long: "Writes finished executions into the ledger. What has an execution of that name already is left out,\n" +
			"so it may be repeated. Drivers:\n" +
			"  goose  the versions that goose's table lists as applied, for the history; goose's table stays in use\n" +
			"  oto    the rows of a one-time-operations table: name, dispatched, processed_at",
		Example: "  " + a.root.Name() + " import --driver oto --table operations --dry-run",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "goose" || args[0] == "oto") {
				return usagef("unexpected argument %q: do you mean --driver %[1]s?", args[0])
			}
			return takes()(cmd, args)
		},
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	f.StringVar(&c.driver, "driver", "", "goose or oto")
	f.StringVar(&c.table, "table", "one_time_operations", "the table that oto reads")
	f.BoolVar(&c.dryRun, "dry-run", false, "print the counts and change nothing")
	f.BoolVar(&c.yes, "yes", false, "do not ask")
	return cmd
}

// findings is what a source of finished work has.
type findings struct {
	rows     []storage.Execution
	problems []string // rows that cannot be read, each in a line
}

// imported is the JSON document of import.
type imported struct {
	Driver   string   `json:"driver"`
	DryRun   bool     `json:"dry_run"`
	Total    int      `json:"total"`
	Present  int      `json:"present"` // names the ledger has already
	New      int      `json:"new"`
	Imported int      `json:"imported"`
	Errors   []string `json:"errors"`
}

func (c *importCommand) body(ctx context.Context, s *session) error {
	found, err := c.read(ctx, s)
	if err != nil {
		return err
	}
	result := imported{Driver: c.driver, DryRun: c.dryRun, Total: len(found.rows), Errors: notNil(found.problems)}
	fresh, err := s.unknownTo(ctx, found.rows)
	if err != nil {
		return err
	}
	result.New, result.Present = len(fresh), len(found.rows)-len(fresh)
	if !s.json {
		s.table([]string{"found", "already there", "new"}, [][]string{{
			strconv.Itoa(result.Total), strconv.Itoa(result.Present), strconv.Itoa(result.New),
		}})
	}
	if !c.dryRun && len(fresh) > 0 {
		if err := s.confirm(ctx, c.yes, "import %s", count(len(fresh), "execution")); err != nil {
			return err
		}
		if result.Imported, err = c.write(ctx, s, fresh); err != nil {
			return err
		}
	}
	return c.conclude(s, result)
}

func (c *importCommand) read(ctx context.Context, s *session) (findings, error) {
	switch c.driver {
	case "goose":
		return readGoose(ctx, s)
	case "oto":
		return readOTO(ctx, s.DB, c.table)
	case "":
		return findings{}, usagef("--driver is missing: there are goose and oto")
	}
	return findings{}, usagef("unknown driver %q: there are goose and oto", c.driver)
}

// unknownTo leaves out names that the ledger has, and repeated ones: what is
// counted here is what Record will write.
func (s *session) unknownTo(ctx context.Context, rows []storage.Execution) ([]storage.Execution, error) {
	seen := map[string]bool{}
	var fresh []storage.Execution
	for _, row := range rows {
		if seen[row.Name] {
			continue
		}
		seen[row.Name] = true
		known, err := s.Seq.Store().Executions(ctx, storage.Filter{Name: row.Name, Limit: 1})
		if err != nil && !isMissingLedger(err) {
			return nil, err
		}
		if len(known) == 0 {
			fresh = append(fresh, row)
		}
	}
	return fresh, nil
}

func (c *importCommand) write(ctx context.Context, s *session, rows []storage.Execution) (int, error) {
	if err := s.Seq.Setup(ctx); err != nil {
		return 0, err
	}
	actor := s.Seq.Config().Actor
	for i := range rows {
		rows[i].ID, rows[i].Actor, rows[i].State = storage.NewID(), actor, storage.Completed
		rows[i].Priority, rows[i].Queue = storage.PriorityDefault, s.Seq.Config().Queue
	}
	return s.Seq.Store().Record(ctx, storage.RecordRequest{Executions: rows, Actor: actor, Reason: "import from " + c.driver})
}

// conclude prints the counts. Rows that could not be read make the exit code 1;
// the others are imported all the same (S34.23).
func (c *importCommand) conclude(s *session, result imported) error {
	switch {
	case s.json:
		s.document(result)
	case result.Total == 0 && len(result.Errors) == 0:
		s.printf("Nothing to import: there are no finished rows.")
	case c.dryRun:
		s.printf("Nothing was changed.")
	default:
		s.printf("%d imported, %d already there, %s.", result.Imported, result.Present, count(len(result.Errors), "error"))
	}
	if len(result.Errors) == 0 {
		return nil
	}
	return errors.New(strings.Join(result.Errors, "\n"))
}
