package main

import (
	"context"
	"database/sql"
	"errors"
)

// postgresSyntax asks the server to read a text. A server reads the whole of a
// simple query before it runs the first statement, and this first one fails: so an
// error of its own means that the rest could be read, and nothing of it ran
// (PostgreSQL manual, "Multiple Statements in a Simple Query").
func postgresSyntax(db *sql.DB) func(context.Context, string) error {
	return func(ctx context.Context, text string) error {
		_, err := db.ExecContext(ctx, "select 1/0;\n"+text)
		const divisionByZero = "22012"
		var coded interface{ SQLState() string }
		if errors.As(err, &coded) && coded.SQLState() == divisionByZero {
			return nil
		}
		return err
	}
}
