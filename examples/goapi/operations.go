package main

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/gosequencer/sequencer"
)

// Between these operations stand the migrations of the same clock: a run takes
// both in the order of their timestamps.
const (
	importReleases = "20250101000100_import_releases"
	importFeatures = "20250101000300_import_features"
	growthReport   = "20250101000500_growth_report"
	writeReport    = "20250101000600_write_report"
)

// register lists the operations. A function is the short form, with options for
// what it needs; a type has methods instead, and may have input.
//
// All of them write through the transaction of their attempt, which commits
// together with the outcome. Whoever kills the process finds rows and ledger in
// agreement, and the next run goes on from there.
func register(reg *sequencer.Registry, api apiDir) {
	sequencer.RegisterFunc(reg, importReleases,
		sequencer.InTx(func(ctx context.Context, tx *sql.Tx) error { return loadReleases(ctx, tx, api) }),
		sequencer.Undo(sequencer.InTx(emptied("releases"))),
		sequencer.Tagged("import"))

	sequencer.Register(reg, importFeatures, func() *ImportFeatures { return &ImportFeatures{api: api} })

	sequencer.RegisterFunc(reg, growthReport, sequencer.InTx(computeGrowth),
		sequencer.DependsOn(sequencer.Op(importFeatures), sequencer.Migration("20250101000400_create_packages")),
		sequencer.Undo(sequencer.InTx(emptied("growth"))),
		sequencer.Tagged("report"))

	sequencer.RegisterFunc(reg, writeReport, sequencer.InTx(storeReport),
		sequencer.DependsOn(sequencer.Op(growthReport)),
		sequencer.Undo(sequencer.InTx(emptied("report"))),
		sequencer.Tagged("report"))
}

// emptied is the way back from what fills one table, and the first step of the way
// there: "process --repeat" after an upgrade of Go then brings the new release in.
func emptied(table string) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM "+table)
		return err
	}
}

func loadReleases(ctx context.Context, tx *sql.Tx, dir apiDir) error {
	api, err := dir(ctx)
	if err != nil {
		return err
	}
	list, err := releases(api)
	if err != nil {
		return err
	}
	if err := emptied("releases")(ctx, tx); err != nil {
		return err
	}
	for _, r := range list {
		count := 0
		for _, err := range features(api, r.file) {
			if err != nil {
				return err
			}
			count++
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO releases (minor, name, year, features) VALUES (?, ?, ?, ?)",
			r.minor, r.name, r.year, count); err != nil {
			return err
		}
	}
	return nil
}

// ImportFeatures reads all files in one transaction, with progress. Its methods
// are what the ledger may know of it besides its name.
type ImportFeatures struct {
	api apiDir // a dependency: the factory sets it, and it is never stored
}

var (
	_ sequencer.Operation    = (*ImportFeatures)(nil)
	_ sequencer.Rollbackable = (*ImportFeatures)(nil)
)

// Tags serve process --tags and the queries of the ledger.
func (*ImportFeatures) Tags() []string { return []string{"import"} }

// Tries and Backoff are for a disk that is full or a file that is locked.
func (*ImportFeatures) Tries() int { return 3 }

// Backoff is the wait before the second attempt, and before the third.
func (*ImportFeatures) Backoff() []time.Duration {
	return []time.Duration{time.Second, 5 * time.Second}
}

// Timeout is for one attempt. A good one takes a second or two.
func (*ImportFeatures) Timeout() time.Duration { return 2 * time.Minute }

// Handle does the work.
func (o *ImportFeatures) Handle(ctx context.Context) error {
	api, err := o.api(ctx)
	if err != nil {
		return sequencer.Fail(err) // another attempt would not find it either
	}
	list, err := releases(api)
	if err != nil {
		return sequencer.Fail(err)
	}
	tx, err := sequencer.Tx[*sql.Tx](ctx)
	if err != nil {
		return err
	}
	if err := emptied("features")(ctx, tx); err != nil {
		return err
	}
	var total int64
	if err := tx.QueryRowContext(ctx, "SELECT sum(features) FROM releases").Scan(&total); err != nil {
		return err
	}
	into := inserter{tx: tx}
	for _, r := range list {
		for f, err := range features(api, r.file) {
			if err != nil {
				return err
			}
			full, err := into.add(ctx, r.minor, f)
			if err != nil {
				return err
			}
			if full { // seldom enough to cost nothing, often enough to look alive
				sequencer.Progress(ctx, into.done, total)
			}
		}
	}
	if err := into.flush(ctx); err != nil {
		return err
	}
	sequencer.Progress(ctx, into.done, total)
	return nil
}

// Rollback runs when the run fails later on, or when somebody asks for it.
func (*ImportFeatures) Rollback(ctx context.Context) error {
	return sequencer.InTx(emptied("features"))(ctx)
}

// inserter sends many rows with one statement: the way into the database costs
// more than the row.
type inserter struct {
	tx   *sql.Tx
	args []any
	done int64
}

const (
	featureColumns = 5
	featureRows    = 500
)

// add reports whether the rows collected so far were sent.
func (i *inserter) add(ctx context.Context, minor int, f feature) (bool, error) {
	i.args = append(i.args, minor, f.line, f.pkg, f.platform, f.symbol)
	if len(i.args) < featureRows*featureColumns {
		return false, nil
	}
	return true, i.flush(ctx)
}

func (i *inserter) flush(ctx context.Context) error {
	rows := len(i.args) / featureColumns
	if rows == 0 {
		return nil
	}
	_, err := i.tx.ExecContext(ctx, "INSERT INTO features (release, line, package, platform, symbol) VALUES (?, ?, ?, ?, ?)"+
		strings.Repeat(", (?, ?, ?, ?, ?)", rows-1), i.args...)
	i.args, i.done = i.args[:0], i.done+int64(rows)
	return err
}

// recentReleases is how far back growth looks: two and a half years.
const recentReleases = 5

func computeGrowth(ctx context.Context, tx *sql.Tx) error {
	if err := emptied("growth")(ctx, tx); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO growth (package, recent, features)
		SELECT package, sum(release > (SELECT max(minor) FROM releases) - ?), count(*)
		FROM features
		GROUP BY package`, recentReleases)
	return err
}

// storeReport keeps the text that the program prints after a run and that
// "summary" prints whenever it is asked.
func storeReport(ctx context.Context, tx *sql.Tx) error {
	text, err := renderReport(ctx, tx)
	if err != nil {
		return err
	}
	if err := emptied("report")(ctx, tx); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO report (text) VALUES (?)", text)
	return err
}
