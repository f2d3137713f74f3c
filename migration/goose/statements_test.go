package goose_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	pressly "github.com/pressly/goose/v3"

	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/migration/goose"
)

func TestStatementsAreWhatGooseWouldSendAndNothingIsRun(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d database) {
		files := fstest.MapFS{
			"20240101000000_a.sql": {Data: []byte(`-- +goose Up
create table a (x int);
insert into a values (1);
-- +goose StatementBegin
select 1; select 2;
-- +goose StatementEnd
-- +goose Down
drop table a;
`)},
			"20240102000000_b.sql": {Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\nvacuum;\n")},
			"20240103000000_c.sql": {Data: []byte("create table c (x int);\n")},
			"20240104000000_d.sql": {Data: []byte("-- +goose Up\ncreate table d (x int)\n")},
		}
		source, err := goose.New(d.dialect, d.db, files, goose.Options{
			Go: []*pressly.Migration{pressly.NewGoMigration(20240105000000, &pressly.GoFunc{RunTx: nil}, nil)},
		})
		if err != nil {
			t.Fatal(err)
		}
		for version, wanted := range map[int64][]string{
			20240101000000: {"create table a (x int);", "insert into a values (1);", "select 1; select 2;"},
			20240102000000: {"vacuum;"},
			20240105000000: nil,
		} {
			got, err := source.Statements(t.Context(), version)
			for i := range got {
				got[i] = strings.TrimSpace(got[i])
			}
			if diff := cmp.Diff(wanted, got); err != nil || diff != "" {
				t.Errorf("version %d: %v (-want +got):\n%s", version, err, diff)
			}
		}
		for version, wanted := range map[int64]string{20240103000000: "20240103000000_c.sql", 20240104000000: "20240104000000_d.sql"} {
			if _, err := source.Statements(t.Context(), version); err == nil || !strings.Contains(err.Error(), wanted) {
				t.Errorf("version %d: got %v, want an error that names %s", version, err, wanted)
			}
		}
		if _, err := source.Statements(t.Context(), 1); !errors.Is(err, migration.ErrUnknown) {
			t.Errorf("got %v, want ErrUnknown", err)
		}
		if left := d.schema(t); len(left) != 0 {
			t.Errorf("the database holds %q, want nothing", left)
		}
	})
}
