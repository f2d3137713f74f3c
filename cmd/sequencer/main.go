// Command sequencer runs schema migrations and operations that are files, in the
// order of their timestamps, once, against a ledger in SQLite, PostgreSQL or MySQL. A
// ledger in Redis serves executables.
//
//	export SEQUENCER_DATABASE_URL=sqlite:app.db
//	sequencer plan
//	sequencer process
//
// Migrations are goose's .sql files in ./migrations, operations .sql files and
// executables in ./operations; package internal/fileop tells what an operation's
// file may declare. A Go application with operations of its own mounts the same
// commands with package cli.
package main

import (
	"context"
	"os"
	_ "time/tzdata" // schedules have time zones, and a bare container has no database of them

	"github.com/gosequencer/sequencer/cli"
)

func main() {
	os.Exit(run())
}

func run() int {
	return cli.Main(context.Background(), nil, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, cli.WithOpener(&opener{}), cli.WithCommands(newKeys()))
}
