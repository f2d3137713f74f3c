package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// localPostgres are tried in order when SEQUENCER_TEST_POSTGRES_URL is not set, as
// the tests of the library do.
var localPostgres = []string{
	"postgres://sequencer_test:sequencer_test@127.0.0.1:5432/sequencer_test?sslmode=disable",
	"postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable",
}

// postgresConns is the size of the pools that callers and workers share.
const postgresConns = 40

var postgresPlaces = placeKind{
	store: "postgres",
	version: func(ctx context.Context) (version string, err error) {
		err = onPostgres(ctx, "", func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, "SELECT 'PostgreSQL ' || current_setting('server_version')").Scan(&version)
		})
		return version, err
	},
	make: func(ctx context.Context, name string) (string, error) {
		address, err := postgresServer()
		if err != nil {
			return "", err
		}
		u, err := url.Parse(address)
		if err != nil {
			return "", err
		}
		q := u.Query()
		q.Set("search_path", name)
		q.Set("application_name", name)
		u.RawQuery = q.Encode()
		return u.String(), execPostgres(ctx, "", "CREATE SCHEMA "+name)
	},
	remove: func(ctx context.Context, p place) error {
		return execPostgres(ctx, "", "DROP SCHEMA "+p.Name+" CASCADE")
	},
	size: func(ctx context.Context, p place) (size int64, err error) {
		const tables = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace = $1::regnamespace"
		err = onPostgres(ctx, p.Address, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, tables, p.Name).Scan(&size) })
		return size, err
	},
	processes: func(ctx context.Context, p place) (pids []int, err error) {
		const backends = "SELECT pid FROM pg_stat_activity WHERE application_name = $1"
		err = onPostgres(ctx, "", func(conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, backends, p.Name)
			if err == nil {
				pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
			}
			return err
		})
		return pids, err
	},
	settle: func(ctx context.Context, p place) error {
		return onPostgres(ctx, p.Address, func(conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, "SELECT tablename FROM pg_tables WHERE schemaname = $1", p.Name)
			if err != nil {
				return err
			}
			tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
			for _, table := range tables {
				_, vacuumed := conn.Exec(ctx, "VACUUM (ANALYZE) "+pgx.Identifier{table}.Sanitize())
				err = errors.Join(err, vacuumed)
			}
			return err
		})
	},
}

// postgresServer finds the server once per process.
var postgresServer = sync.OnceValues(func() (string, error) {
	candidates := localPostgres
	if set := os.Getenv("SEQUENCER_TEST_POSTGRES_URL"); set != "" {
		candidates = []string{set}
	}
	var errs []error
	for _, address := range candidates {
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
		conn, err := pgx.Connect(ctx, address)
		if err == nil {
			err = conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return address, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("%w (make bench starts what it needs; or set SEQUENCER_TEST_POSTGRES_URL)", errors.Join(errs...))
})

// onPostgres lends a connection to an address, or to the server.
func onPostgres(ctx context.Context, address string, do func(*pgx.Conn) error) error {
	if address == "" {
		found, err := postgresServer()
		if err != nil {
			return err
		}
		address = found
	}
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return do(conn)
}

// execPostgres sends text, which may be several statements.
func execPostgres(ctx context.Context, address, text string) error {
	return onPostgres(ctx, address, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, text, pgx.QueryExecModeSimpleProtocol)
		return err
	})
}

func openPostgres(ctx context.Context, address string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = postgresConns
	return pgxpool.NewWithConfig(ctx, cfg)
}
