//go:build linux

package crashtest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing/fstest"

	"github.com/gosequencer/sequencer"
)

// program is a registry whose operations write to db and pass points.
type program struct {
	*sequencer.Registry
	db    *sql.DB
	point func(string) error
}

// executor is what *sql.DB and *sql.Tx have in common.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// around makes one change between two points.
func (p *program) around(ctx context.Context, name string, db executor, query string) error {
	if err := p.point(name + "/before"); err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, query); err != nil {
		return err
	}
	return p.point(name + "/after")
}

// inTx is a handler that makes its change in the attempt's transaction, where it
// commits together with the outcome, or not at all.
func (p *program) inTx(name, query string) func(context.Context) error {
	return sequencer.InTx(func(ctx context.Context, tx *sql.Tx) error { return p.around(ctx, name, tx, query) })
}

// outside is a handler whose change is durable before its outcome is.
func (p *program) outside(name, query string) func(context.Context) error {
	return func(ctx context.Context) error { return p.around(ctx, name, p.db, query) }
}

const (
	seed      = "20240102000000_seed"
	index     = "20240103000000_index"
	flaky     = "20240104000000_flaky"
	dependent = "20240105000000_dependent"
	skipped   = "20240106000000_skipped"
	async     = "20240108000000_async"
	base      = "20240109000000_base"
	upsert    = "20240110000000_upsert"
	last      = "20240112000000_last"
)

// Effects are appended to, so that doing something twice shows; each says how many
// came before it, so that another order shows too.
var everythingMigrations = fstest.MapFS{
	"20240101000000_tables.sql": script(`CREATE TABLE effects (name text NOT NULL);
CREATE TABLE settings (name text PRIMARY KEY, value integer NOT NULL);`),
	// Without a transaction, so that dying in it leaves a question open.
	index + ".sql":                script("-- +goose NO TRANSACTION\nCREATE INDEX IF NOT EXISTS effects_name ON effects (name);"),
	"20240107000000_backfill.sql": script(effect("backfill")),
	"20240111000000_column.sql":   script("ALTER TABLE settings ADD COLUMN note text;"),
}

func effect(name string) string {
	return fmt.Sprintf("INSERT INTO effects SELECT '%s after ' || count(*) FROM effects;", name)
}

// registerEverything has one operation of every kind that matters to who dies.
func registerEverything(p *program) {
	sequencer.RegisterFunc(p.Registry, seed, p.inTx(seed, "INSERT INTO effects VALUES ('seed')"), sequencer.Undo(p.inTx(seed+" undo", "DELETE FROM effects WHERE name LIKE 'seed%'")))
	sequencer.RegisterFunc(p.Registry, flaky, func(ctx context.Context) error {
		err := p.inTx(flaky, effect("flaky"))(ctx)
		if err == nil && sequencer.Current(ctx).Number == 1 {
			err = errors.New("the first attempt fails, and what it wrote goes with it")
		}
		return err
	}, sequencer.Tries(5))
	sequencer.RegisterFunc(p.Registry, dependent, p.inTx(dependent, effect("dependent")), sequencer.DependsOn(sequencer.Op(base)))
	sequencer.RegisterFunc(p.Registry, skipped, p.inTx(skipped, effect("skipped")),
		sequencer.When(func(context.Context) (bool, error) { return false, p.point(skipped + "/condition") }))
	// Beside the line, so in a table of its own; twice would break the primary key.
	sequencer.RegisterFunc(p.Registry, async, p.inTx(async, "INSERT INTO settings (name, value) VALUES ('async', 1)"), sequencer.Mark[sequencer.Async]())
	sequencer.RegisterFunc(p.Registry, base, p.inTx(base, effect("base")))
	sequencer.RegisterFunc(p.Registry, upsert, p.outside(upsert, set("upsert", 7)),
		sequencer.Mark[sequencer.Idempotent](), sequencer.Mark[sequencer.TxNever]())
	sequencer.RegisterFunc(p.Registry, last, p.inTx(last, effect("last")))
}

var settingsMigrations = fstest.MapFS{
	"20240101000000_tables.sql": everythingMigrations["20240101000000_tables.sql"],
}

func set(name string, value int) string {
	return fmt.Sprintf("INSERT INTO settings (name, value) VALUES ('%s', %d) ON CONFLICT (name) DO UPDATE SET value = excluded.value;", name, value)
}

const once = "20240102000000_once"

// registerOnce has an operation that nobody can repeat safely: not in a
// transaction, and it does not say that it is idempotent.
func registerOnce(p *program) {
	sequencer.RegisterFunc(p.Registry, once, p.outside(once, effect("once")), sequencer.Mark[sequencer.TxNever]())
	sequencer.RegisterFunc(p.Registry, last, p.inTx(last, effect("last")))
}

const (
	createUser = "20240102000000_create_user"
	setLimit   = "20240103000000_set_limit"
	note       = "20240104000000_note"
	grant      = "20240105000000_grant"
	broken     = "20240106000000_broken"
)

// registerUndoable ends with an operation that fails, if it is given an error: then
// all others are undone but the note, which has no rollback and stays.
func registerUndoable(p *program, failure error) {
	sequencer.RegisterFunc(p.Registry, createUser, func(ctx context.Context) error {
		if err := sequencer.SetResult(ctx, 4711); err != nil {
			return err
		}
		return p.inTx(createUser, "INSERT INTO effects VALUES ('do user')")(ctx)
	}, sequencer.Undo(func(ctx context.Context) error {
		id, err := sequencer.ResultOf[int](ctx, "")
		if err != nil {
			return err
		}
		return p.inTx(createUser+" undo", fmt.Sprintf("INSERT INTO effects VALUES ('undo user %d')", id))(ctx)
	}))
	sequencer.RegisterFunc(p.Registry, setLimit, p.outside(setLimit, set("limit", 100)),
		sequencer.Undo(p.outside(setLimit+" undo", set("limit", 0))), sequencer.Mark[sequencer.Idempotent](), sequencer.Mark[sequencer.TxNever]())
	sequencer.RegisterFunc(p.Registry, note, p.inTx(note, "INSERT INTO effects VALUES ('do note')"))
	sequencer.RegisterFunc(p.Registry, grant, p.inTx(grant, "INSERT INTO effects VALUES ('do grant')"),
		sequencer.Undo(p.inTx(grant+" undo", "INSERT INTO effects VALUES ('undo grant')")))
	sequencer.RegisterFunc(p.Registry, broken, func(context.Context) error { return errors.Join(p.point(broken), failure) },
		sequencer.DependsOn(sequencer.Op(createUser), sequencer.Op(setLimit), sequencer.Op(note), sequencer.Op(grant)))
}
