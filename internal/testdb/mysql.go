package testdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
)

const mysqlVar = "SEQUENCER_TEST_MYSQL_URL"

// localMySQL are tried in order when the variable is not set. The first is what scripts/services.sh makes.
var localMySQL = []string{
	"mysql://sequencer_test:sequencer_test@127.0.0.1:3306/",
	"mysql://root@127.0.0.1:3306/",
}

// MySQL creates a database on the server, which may be MariaDB, and returns its URL. The database is dropped when tb ends;
// a transaction that is still open then, which blocks the drop, fails tb. It may be called inside a synctest bubble: it
// leaves no goroutine and no connection behind.
//
// Without a server, tb is skipped, or failed if SEQUENCER_TEST_REQUIRE says so.
func MySQL(tb testing.TB) string {
	tb.Helper()
	server, err := mysqlServer()
	if err != nil {
		leaveOut(tb, "mysql", mysqlVar, err)
		return ""
	}
	database := fmt.Sprintf("test_%016x", rand.Uint64()) // as in Postgres
	if err := execMySQL(tb.Context(), server, "create database "+database); err != nil {
		tb.Fatalf("create database %s for the test: %v", database, err)
	}
	tb.Cleanup(func() {
		err := execMySQL(context.WithoutCancel(tb.Context()), server, "set lock_wait_timeout = 10", "drop database "+database)
		if err != nil {
			tb.Errorf("drop database %s (is a transaction of the test still open?): %v", database, err)
		}
	})
	own := *server
	own.Path = "/" + database
	return own.String()
}

// mysqlServer finds the server once per process.
var mysqlServer = sync.OnceValues(func() (*url.URL, error) {
	if set := os.Getenv(mysqlVar); set != "" {
		return reachMySQL(set)
	}
	var errs []error
	for _, c := range localMySQL {
		server, err := reachMySQL(c)
		if err == nil {
			return server, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
})

// reachMySQL reads an address, a URL or the driver's own form, and tries it.
func reachMySQL(address string) (*url.URL, error) {
	if !strings.Contains(address, "://") {
		cfg, err := mysql.ParseDSN(address)
		if err != nil {
			return nil, fmt.Errorf("%s must be a URL such as mysql://user:password@host:3306/: %w", mysqlVar, err)
		}
		u := &url.URL{Scheme: "mysql", Host: cfg.Addr, User: url.UserPassword(cfg.User, cfg.Passwd), Path: "/"}
		return u, execMySQL(context.Background(), u, "select 1")
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "mysql" {
		return nil, fmt.Errorf("%s must be a URL such as mysql://user:password@host:3306/", mysqlVar)
	}
	return u, execMySQL(context.Background(), u, "select 1")
}

// execMySQL sends statements over a connection of its own.
func execMySQL(ctx context.Context, server *url.URL, statements ...string) error {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.Timeout = server.User.Username(), "tcp", server.Host, connectTimeout
	cfg.Passwd, _ = server.User.Password()
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, s := range statements {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
