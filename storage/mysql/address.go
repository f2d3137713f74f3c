package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// server is where a ledger is.
type server struct{ config *mysql.Config }

// parse reads an address. Parameters of a URL are those of the driver's own form:
// tls, timeout, and any variable of the session.
func parse(address string) (server, error) {
	dsn := address
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		if err != nil {
			return server{}, errors.New("mysql address: it is no URL such as mysql://user:password@host:3306/database")
		}
		if u.Scheme != "mysql" && u.Scheme != "mariadb" {
			return server{}, fmt.Errorf("mysql address: %s:// is not mysql://", u.Scheme)
		}
		dsn = dsnOf(u)
	}
	cfg, err := mysql.ParseDSN(dsn)
	switch {
	case err != nil:
		return server{}, fmt.Errorf("mysql address: %w", err) // the driver tells nothing of the address
	case cfg.DBName == "":
		return server{}, errors.New("mysql address: it names no database, as in mysql://user:password@host:3306/database")
	}
	cfg.ParseTime, cfg.Loc = true, time.UTC // goose cannot read its table without
	return server{cfg}, nil
}

// dsnOf is a URL in the driver's form.
func dsnOf(u *url.URL) string {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.DBName = u.User.Username(), "tcp", strings.TrimPrefix(u.Path, "/")
	cfg.Passwd, _ = u.User.Password()
	port := u.Port()
	if port == "" {
		port = "3306"
	}
	cfg.Addr = net.JoinHostPort(u.Hostname(), port)
	dsn := cfg.FormatDSN()
	if u.RawQuery == "" {
		return dsn
	}
	if strings.Contains(dsn, "?") {
		return dsn + "&" + u.RawQuery
	}
	return dsn + "?" + u.RawQuery
}

// own is the pool of the store.
func (s server) own(conns int) *sql.DB {
	cfg := s.config.Clone()
	cfg.MultiStatements, cfg.InterpolateParams, cfg.MaxAllowedPacket = true, true, 0
	cfg.ClientFoundRows = true // a row that is updated to what it was counts
	cfg.Params = maps.Clone(cfg.Params)
	if cfg.Params == nil {
		cfg.Params = map[string]string{}
	}
	cfg.Params["sql_mode"] = "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'"
	if _, set := cfg.Params["innodb_lock_wait_timeout"]; !set {
		cfg.Params["innodb_lock_wait_timeout"] = "10" // and then again, see maxTries
	}
	return pool(cfg, conns)
}

// plain is a pool as users have it: the settings are theirs, but for the isolation.
func (s server) plain(conns int, several bool) *sql.DB {
	cfg := s.config.Clone()
	cfg.MultiStatements = cfg.MultiStatements || several
	return pool(cfg, conns)
}

func pool(cfg *mysql.Config, conns int) *sql.DB {
	db := sql.OpenDB(connector{cfg})
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxIdleTime(5 * time.Minute) // before a firewall, or wait_timeout, ends it
	return db
}

// isolationSQL makes READ COMMITTED the session's default. As a variable it has
// another name on each of the two servers.
const isolationSQL = `SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED`

// connector makes connections whose sessions are set up.
type connector struct{ config *mysql.Config }

func (c connector) Driver() driver.Driver { return &mysql.MySQLDriver{} }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	made, err := mysql.NewConnector(c.config)
	if err != nil {
		return nil, err
	}
	conn, err := made.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.(driver.ExecerContext).ExecContext(ctx, isolationSQL, nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
