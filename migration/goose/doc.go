// Package goose finds and applies migrations written for goose
// (github.com/pressly/goose/v3): its SQL files, its Go migrations, its table.
//
//	//go:embed migrations/*.sql
//	var files embed.FS
//
//	sub, _ := fs.Sub(files, "migrations")
//	source, err := goose.New(goose.Postgres, db, sub, goose.Options{Tx: postgres.SQLTx})
//
// A project that uses goose already needs no change: what its table lists as
// applied is applied, and goose's own command may go on reading and writing it.
//
// # What it promises
//
//   - [Source.Migrations] sends one query and writes nothing, not even goose's table.
//   - [Source.Apply] runs exactly one version, whatever is pending before it. The
//     table is created by the first Apply.
//   - A transactional migration, goose's row and the ledger's row commit together
//     or not at all.
//   - Go migrations come from [Options] alone; goose's global registry is ignored.
//
// # What is not transactional
//
// A file with "-- +goose NO TRANSACTION", a Go migration that takes the *sql.DB,
// and every migration on MySQL and MariaDB, whose DDL commits by itself. When one
// of these fails, what ran before the failure stays, goose has no row for it, and
// the next attempt starts at its first statement: write IF NOT EXISTS, or one
// statement per migration. Without [Options].Tx the migrations live in a database
// other than the ledger's; each is then atomic by itself, but not with the ledger.
//
// # Connections
//
// goose holds one connection while a Go migration may ask the pool for another,
// so the handle needs at least two. On SQLite give it the one of the ledger's store
// (sqlite.Store's DB), or one opened with _txlock=immediate and a busy timeout.
// The former is faster: each connection has a picture of the schema, which a
// migration through another one makes it build anew.
package goose
