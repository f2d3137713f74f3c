package dashboard_test

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/internal/showcase"
	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/mysql"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/redis"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

func TestEveryPageAndActionWorksOnEachBackend(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) (storage.Store, error){
		"sqlite": func(t *testing.T) (storage.Store, error) {
			return sqlite.Open(t.Context(), testdb.SQLite(t), sqlite.Options{})
		},
		"postgres": func(t *testing.T) (storage.Store, error) {
			return postgres.Open(t.Context(), testdb.Postgres(t), postgres.Options{})
		},
		"mysql": func(t *testing.T) (storage.Store, error) {
			return mysql.Open(t.Context(), testdb.MySQL(t), mysql.Options{})
		},
		"redis": func(t *testing.T) (storage.Store, error) {
			return redis.Open(t.Context(), testdb.Redis(t), redis.Options{Logger: slog.New(slog.DiscardHandler)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			})
			v := openOn(t, showcase.Open(t, store, nil, nil), dashboard.Options{Allow: dashboard.Actions()})
			for _, path := range v.pages() {
				v.page(path)
			}
			for _, a := range dashboard.Actions() {
				if answer, body := v.order(a); answer.StatusCode != http.StatusSeeOther {
					t.Errorf("%s: %s %s", a, answer.Status, body)
				}
			}
			for _, path := range []string{"/", "/executions", "/audit", "/queues"} {
				v.page(path)
			}
		})
	}
}
