package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// mysqlPlaces are databases on MySQL or MariaDB.
var mysqlPlaces = placeKind{
	store: "mysql",
	version: func(ctx context.Context) (version string, err error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		err = onMySQL(ctx, mysqlServer(), func(db *sql.DB) error {
			return db.QueryRowContext(ctx, "SELECT CONCAT(@@version_comment, ' ', version())").Scan(&version)
		})
		if err != nil {
			err = fmt.Errorf("%w (set SEQUENCER_TEST_MYSQL_URL)", err)
		}
		return version, err
	},
	make: func(ctx context.Context, name string) (string, error) {
		cfg, err := parseMySQL(mysqlServer())
		if err != nil {
			return "", err
		}
		cfg.DBName = name
		return cfg.FormatDSN(), execMySQL(ctx, mysqlServer(), "CREATE DATABASE "+name)
	},
	remove: func(ctx context.Context, p place) error {
		return execMySQL(ctx, mysqlServer(), "DROP DATABASE "+p.Name)
	},
	size: func(ctx context.Context, p place) (size int64, err error) {
		const tables = "SELECT CAST(COALESCE(SUM(data_length + index_length), 0) AS SIGNED) FROM information_schema.tables WHERE table_schema = ?"
		if err := analyzeMySQL(ctx, p); err != nil {
			return 0, err
		}
		err = onMySQL(ctx, p.Address, func(db *sql.DB) error { return db.QueryRowContext(ctx, tables, p.Name).Scan(&size) })
		return size, err
	},
	settle: analyzeMySQL,
}

// analyzeMySQL renews what the server knows of the tables, their sizes included.
func analyzeMySQL(ctx context.Context, p place) error {
	const tables = "SELECT GROUP_CONCAT(CONCAT('`', table_name, '`')) FROM information_schema.tables WHERE table_schema = ?"
	return onMySQL(ctx, p.Address, func(db *sql.DB) error {
		var names string
		if err := db.QueryRowContext(ctx, tables, p.Name).Scan(&names); err != nil {
			return err
		}
		_, err := db.ExecContext(ctx, "ANALYZE TABLE "+names)
		return err
	})
}

func mysqlServer() string { return server("SEQUENCER_TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306/") }

// parseMySQL reads a mysql:// URL, or an address in the driver's own form.
func parseMySQL(address string) (*mysql.Config, error) {
	if !strings.Contains(address, "://") {
		return mysql.ParseDSN(address)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("mysql address: %w", err)
	}
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.DBName = u.User.Username(), "tcp", u.Host, strings.TrimPrefix(u.Path, "/")
	cfg.Passwd, _ = u.User.Password()
	cfg.InterpolateParams = true // a statement is then one message there and one back
	return cfg, nil
}

func openMySQL(address string) (*sql.DB, error) {
	cfg, err := parseMySQL(address)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(40)
	db.SetMaxIdleConns(40)
	return db, nil
}

func onMySQL(ctx context.Context, address string, do func(*sql.DB) error) error {
	db, err := openMySQL(address)
	if err != nil {
		return err
	}
	defer db.Close()
	return do(db)
}

func execMySQL(ctx context.Context, address string, statements ...string) error {
	return onMySQL(ctx, address, func(db *sql.DB) error {
		for _, s := range statements {
			if _, err := db.ExecContext(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
}
