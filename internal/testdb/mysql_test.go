package testdb

import (
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMySQLGivesEachTestADatabaseOfItsOwnAndDropsIt(t *testing.T) {
	t.Parallel()
	server, err := mysqlServer()
	if err != nil {
		MySQL(t) // skips, or fails
	}
	var gone string
	t.Run("the test", func(t *testing.T) {
		one, two := MySQL(t), MySQL(t)
		gone = strings.TrimPrefix(parsed(t, one).Path, "/")
		for _, address := range []string{one, two} {
			name := strings.TrimPrefix(parsed(t, address).Path, "/")
			if err := execMySQL(t.Context(), server, "use "+name, "create table notes (body text)"); err != nil {
				t.Error(err)
			}
		}
	})
	if err := execMySQL(t.Context(), server, "use "+gone); err == nil {
		t.Errorf("database %s is still there after its test", gone)
	}
}

func TestMySQLLeavesNothingBehindInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		MySQL(t)
		before := time.Now()
		time.Sleep(24 * time.Hour)
		if waited := time.Since(before); waited < 24*time.Hour {
			t.Errorf("the bubble's clock moved by %v, want a day", waited)
		}
	})
}

func TestAMySQLAddressMayBeAURLOrTheDriversOwn(t *testing.T) {
	t.Parallel()
	server, err := mysqlServer()
	if err != nil {
		MySQL(t) // skips, or fails
	}
	got, err := reachMySQL(server.User.String() + "@tcp(" + server.Host + ")/")
	if err != nil || got.Host != server.Host || got.User.Username() != server.User.Username() {
		t.Errorf("got %v, %v; want %v", got, err, server)
	}
	for _, bad := range []string{"host=localhost", "postgres://h/d"} {
		if got, err := reachMySQL(bad); err == nil || !strings.Contains(err.Error(), mysqlVar) {
			t.Errorf("%q: got %v, %v; want an error that names the variable", bad, got, err)
		}
	}
}

func parsed(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
