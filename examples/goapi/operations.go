package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
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
// What writes does so through the transaction of its attempt, which commits
// together with the outcome. Whoever kills the process finds rows and ledger in
// agreement, and the next run goes on from there.
func register(reg *sequencer.Registry, a *app, api apiDir) {
	sequencer.RegisterFunc(reg, importReleases,
		sequencer.InTx(func(ctx context.Context, tx *sql.Tx) error { return loadReleases(ctx, tx, api) }),
		sequencer.Undo(sequencer.InTx(emptied("releases"))),
		sequencer.Tagged("import"))

	sequencer.Register(reg, importFeatures, func() *ImportFeatures { return &ImportFeatures{api: api, work: a.work, db: a.db} })
	sequencer.Register(reg, importRelease, func() *ImportRelease { return &ImportRelease{api: api} })

	sequencer.RegisterFunc(reg, growthReport, sequencer.InTx(computeGrowth),
		sequencer.DependsOn(sequencer.Op(importFeatures), sequencer.Migration("20250101000400_create_packages")),
		sequencer.Undo(sequencer.InTx(emptied("growth"))),
		sequencer.Tagged("report"))

	// Asynchronous: nothing that comes later in the line has to wait for it.
	sequencer.RegisterFunc(reg, writeReport, sequencer.InTx(storeReport), sequencer.Mark[sequencer.Async](),
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

// ImportFeatures dispatches a batch with a member for each release, works it off side by
// side, and is over when the batch is. Its methods are what the ledger may know of it
// besides its name.
//
// It may be attempted again at any moment: members of an earlier attempt that wait
// still, or whose process was killed, are unique, so the new batch leaves them out, and
// worked off they are all the same.
type ImportFeatures struct {
	sequencer.TxNever    // it commits nothing itself: its members do
	sequencer.Idempotent // and they do so once

	// Dependencies: the factory sets them, and they are never stored.
	api  apiDir
	work func(ctx context.Context, queue string) error
	db   *sql.DB
}

var (
	_ sequencer.Operation    = (*ImportFeatures)(nil)
	_ sequencer.Rollbackable = (*ImportFeatures)(nil)
)

// Tags serve process --tags and the queries of the ledger.
func (*ImportFeatures) Tags() []string { return []string{"import"} }

// Tries and Backoff are for members that wait for another attempt of their own.
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
	members := make([]sequencer.Operation, len(list))
	for i, r := range list {
		members[i] = &ImportRelease{Minor: r.minor, File: r.file}
	}
	batch, err := sequencer.From(ctx).Batch(members...).Name("import of features").OnQueue(importQueue).Dispatch(ctx)
	if err != nil {
		return err
	}
	var done atomic.Int64
	err = o.work(sequencer.WithObserver(ctx, func(_ context.Context, e sequencer.Event) {
		if e.Kind == sequencer.EventCompleted && e.Name == importRelease {
			sequencer.Progress(ctx, done.Add(1), int64(len(list)))
		}
	}), importQueue)
	if err != nil {
		return err
	}
	if _, err := batch.Wait(ctx); err != nil {
		return err
	}
	return o.check(ctx)
}

// check refuses to be done while members of an attempt before this one are not.
func (o *ImportFeatures) check(ctx context.Context) error {
	var have, want int
	err := o.db.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM features), (SELECT sum(features) FROM releases)").Scan(&have, &want)
	if err == nil && have != want {
		err = fmt.Errorf("%d of %d features are there: some releases are still to come", have, want)
	}
	return err
}

// Rollback runs when the run fails later on, or when somebody asks for it.
func (*ImportFeatures) Rollback(ctx context.Context) error {
	return sequencer.Transact(ctx, sequencer.InTx(emptied("features")))
}

const (
	importRelease = "import_release"
	importQueue   = "imports"
)

// ImportRelease reads the file of one release, a member of the batch.
type ImportRelease struct {
	sequencer.TxRequire
	Minor int    `json:"minor"`
	File  string `json:"file"`

	api apiDir
}

// UniqueID keeps a release from being imported twice at a time.
func (o *ImportRelease) UniqueID() string { return o.File }

// Tags name the release.
func (o *ImportRelease) Tags() []string { return []string{"import", "release:" + o.File} }

// Tries and Backoff are for a disk that is full or a file that is locked.
func (*ImportRelease) Tries() int { return 3 }

// Backoff is the wait before the second attempt, and before the third.
func (*ImportRelease) Backoff() []time.Duration {
	return []time.Duration{100 * time.Millisecond, time.Second}
}

// Handle writes all of the release in the transaction of the attempt.
func (o *ImportRelease) Handle(ctx context.Context) error {
	api, err := o.api(ctx)
	if err != nil {
		return sequencer.Fail(err)
	}
	tx, err := sequencer.Tx[*sql.Tx](ctx)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM features WHERE release = ?", o.Minor); err != nil {
		return err
	}
	into := inserter{tx: tx}
	for f, err := range features(api, o.File) {
		if err != nil {
			return err
		}
		if err := into.add(ctx, o.Minor, f); err != nil {
			return err
		}
	}
	return into.flush(ctx)
}

// inserter sends many rows with one statement: the way into the database costs
// more than the row.
type inserter struct {
	tx   *sql.Tx
	args []any
}

const (
	featureColumns = 5
	featureRows    = 500
)

func (i *inserter) add(ctx context.Context, minor int, f feature) error {
	i.args = append(i.args, minor, f.line, f.pkg, f.platform, f.symbol)
	if len(i.args) < featureRows*featureColumns {
		return nil
	}
	return i.flush(ctx)
}

func (i *inserter) flush(ctx context.Context) error {
	rows := len(i.args) / featureColumns
	if rows == 0 {
		return nil
	}
	_, err := i.tx.ExecContext(ctx, "INSERT INTO features (release, line, package, platform, symbol) VALUES (?, ?, ?, ?, ?)"+
		strings.Repeat(", (?, ?, ?, ?, ?)", rows-1), i.args...)
	i.args = i.args[:0]
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
