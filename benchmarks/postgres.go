package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/gosequencer/sequencer/storage"
)

// withSchema runs fn with the address of a schema of its own on the server that
// SEQUENCER_TEST_POSTGRES_URL names, and drops it.
func withSchema(ctx context.Context, fn func(url string) error) error {
	server := os.Getenv("SEQUENCER_TEST_POSTGRES_URL")
	if server == "" {
		server = "postgres://postgres@127.0.0.1:5432/postgres"
	}
	u, err := url.Parse(server)
	if err != nil {
		return fmt.Errorf("SEQUENCER_TEST_POSTGRES_URL: %w", err)
	}
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return fmt.Errorf("%w (run make bench, which starts what it needs, or set SEQUENCER_TEST_POSTGRES_URL)", err)
	}
	defer conn.Close(ctx)
	schema := "bench_" + storage.NewID().String()
	if _, err := conn.Exec(ctx, fmt.Sprintf("CREATE SCHEMA %q", schema)); err != nil {
		return err
	}
	q := u.Query()
	q.Set("search_path", `"`+schema+`"`)
	u.RawQuery = q.Encode()
	err = fn(u.String())
	_, dropped := conn.Exec(ctx, fmt.Sprintf("DROP SCHEMA %q CASCADE", schema))
	return errors.Join(err, dropped)
}
