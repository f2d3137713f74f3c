package sequencer_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/fingerprint"
	"github.com/gosequencer/sequencer/storage"
)

// tried are operations for a rehearsal: what they write and take away are rows.
func (l *sqlLab) tried(name, forward, back string, opts ...sequencer.RegisterOption) {
	statement := func(text string) func(context.Context) error {
		return func(ctx context.Context) error {
			l.note(strings.Fields(text)[0] + " " + name)
			tx, err := sequencer.Tx[*sql.Tx](ctx)
			if err == nil {
				_, err = tx.ExecContext(ctx, text)
			}
			return err
		}
	}
	if back != "" {
		opts = append(opts, sequencer.Undo(statement(back)))
	}
	sequencer.RegisterFunc(l.reg, name, statement(forward), opts...)
}

func (l *sqlLab) rehearse() *sequencer.Rehearsal {
	l.t.Helper()
	r, err := l.open().Rehearse(l.t.Context(), sequencer.RehearseOptions{
		Fingerprint: func(ctx context.Context) (map[string]string, error) { return fingerprint.Of(ctx, l.db, l.store.Name()) },
	})
	if err != nil {
		l.t.Fatal(err)
	}
	for i := range r.Steps { // names of tables alone, and no times
		r.Steps[i].Elapsed = 0
		for k, table := range r.Steps[i].Left {
			r.Steps[i].Left[k] = table[strings.LastIndex(table, ".")+1:]
		}
	}
	return r
}

func TestARehearsalTellsWhatDoesNotComeBack(t *testing.T) {
	t.Parallel()
	inTx, safe := sequencer.Mark[sequencer.TxRequire](), sequencer.Mark[sequencer.Rehearsable]()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		l.tried("20240101000000_good", "INSERT INTO effects VALUES ('a')", "DELETE FROM effects WHERE what = 'a'", inTx)
		l.tried("20240102000000_careless", "INSERT INTO effects VALUES ('b'), ('c')", "DELETE FROM effects WHERE what = 'b'", safe)
		l.tried("20240103000000_one_way", "INSERT INTO effects VALUES ('d')", "", safe)
		l.tried("20240104000000_unsafe", "INSERT INTO effects VALUES ('e')", "")
		l.tried("20240105000000_behind", "INSERT INTO effects VALUES ('f')", "", inTx, sequencer.DependsOn(sequencer.Op("20240104000000_unsafe")))
		l.tried("20240106000000_mails", "INSERT INTO effects VALUES ('g')", "", inTx, sequencer.OnAfter(nothing))
		l.tried("20240107000000_in_front", "INSERT INTO effects VALUES ('h')", "DELETE FROM effects WHERE what = 'h'", safe, sequencer.DependsOn(sequencer.Op("20240103000000_one_way")))
		want := &sequencer.Rehearsal{
			Compared: true,
			Steps: []sequencer.RehearsalStep{
				{Kind: storage.Ordered, Name: "20240101000000_good", State: storage.Completed, Back: true},
				{Kind: storage.Ordered, Name: "20240102000000_careless", State: storage.Completed, Back: true, Left: []string{"effects"}},
				{Kind: storage.Ordered, Name: "20240103000000_one_way", State: storage.Completed},
				{Kind: storage.Ordered, Name: "20240107000000_in_front", State: storage.Completed, Back: true},
			},
			NotRehearsed: []sequencer.NotRehearsed{
				{Name: "20240104000000_unsafe", Reason: "nothing says that it is safe: mark it rehearsable, or TxRequire if all it does is in the ledger's transaction"},
				{Name: "20240105000000_behind", Reason: "it needs 20240104000000_unsafe, which was not rehearsed"},
				{Name: "20240106000000_mails", Reason: "its hooks are outside the transaction: mark it rehearsable if they may run"},
			},
		}
		r := l.rehearse()
		if diff := cmp.Diff(want, r, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if err := r.Err(); !errors.Is(err, sequencer.ErrRehearsal) || !strings.Contains(err.Error(), "careless was rolled back and left differences in: effects") {
			t.Errorf("the rehearsal's error is %v", err)
		}
		l.expect(
			"INSERT 20240101000000_good", "DELETE 20240101000000_good", "INSERT 20240101000000_good",
			"INSERT 20240102000000_careless", "DELETE 20240102000000_careless", "INSERT 20240102000000_careless",
			"INSERT 20240103000000_one_way",
			"INSERT 20240107000000_in_front", "DELETE 20240107000000_in_front", "INSERT 20240107000000_in_front",
		)
	})
}

func TestARehearsalEndsWithTheFirstFailureAndSaysWhichWayItWas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		forward, back string
		want          func(s *sequencer.RehearsalStep) string
		is            string
	}{
		"forward": {"INSERT INTO nowhere VALUES (1)", "DELETE FROM effects", func(s *sequencer.RehearsalStep) string { return s.Error }, "failed"},
		"back":    {"INSERT INTO effects VALUES ('a')", "DELETE FROM nowhere", func(s *sequencer.RehearsalStep) string { return s.RollbackError }, "could not be rolled back"},
		"again": {
			"INSERT INTO once VALUES (1)", "INSERT INTO effects VALUES ('x')",
			func(s *sequencer.RehearsalStep) string { return s.AgainError }, "could not be run again",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onSQL(t, func(t *testing.T, l *sqlLab) {
				if _, err := l.db.ExecContext(t.Context(), "CREATE TABLE once (n INT PRIMARY KEY)"); err != nil {
					t.Fatal(err)
				}
				l.tried("20240101000000_wrong", c.forward, c.back, sequencer.Mark[sequencer.Rehearsable]())
				l.tried("20240102000000_next", "INSERT INTO effects VALUES ('n')", "", sequencer.Mark[sequencer.Rehearsable]())
				r := l.rehearse()
				if len(r.Steps) != 1 || c.want(&r.Steps[0]) == "" {
					t.Fatalf("got %+v", r)
				}
				if err := r.Err(); err == nil || !strings.Contains(err.Error(), c.is) {
					t.Errorf("got error %v, want one that says: %s", err, c.is)
				}
			})
		})
	}
}

func TestARehearsalOfNothingIsNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t).open()
	r, err := l.Rehearse(t.Context(), sequencer.RehearseOptions{})
	if err != nil || len(r.Steps)+len(r.NotRehearsed) > 0 || r.Compared || r.Err() != nil {
		t.Errorf("got %+v, %v", r, err)
	}
}

// A skip for now stays pending, and a failure that is allowed is offered again.
func TestARehearsalLooksAtEachTaskOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	safe := sequencer.Mark[sequencer.Rehearsable]()
	l.op("20240101000000_later", func(context.Context) error { return sequencer.SkipForNow("not today") }, safe)
	l.op("20240102000000_allowed", func(context.Context) error { return errors.New("boom") }, safe, sequencer.Mark[sequencer.AllowedToFail]())
	r, err := l.open().Rehearse(t.Context(), sequencer.RehearseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Steps) != 2 || r.Steps[0].State != storage.Skipped || r.Steps[1].State != storage.Failed || r.Err() != nil {
		t.Errorf("got %+v, %v", r.Steps, r.Err())
	}
}

func TestARehearsalOnACopyNeedsNobodysApproval_A1(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		l.tried("20240101000000_good", "INSERT INTO effects VALUES ('a')", "DELETE FROM effects WHERE what = 'a'",
			sequencer.Mark[sequencer.TxRequire](), sequencer.ApprovedBy("dba"))
		r := l.rehearse()
		if len(r.Steps) != 1 || r.Steps[0].State != storage.Completed || r.Steps[0].AgainError != "" {
			t.Errorf("rehearsed %+v", r.Steps)
		}
		if list, err := l.Approvals(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("asked for %+v, %v; want nothing", list, err)
		}
	})
}
