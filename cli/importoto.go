package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var (
	tableName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)
	storedName  = regexp.MustCompile(`^[A-Za-z0-9._:/-]+$`)
	orderedName = regexp.MustCompile(`^(\d{14}|\d{4}_\d{2}_\d{2}_\d{6})_.`)
)

// readOTO reads a one-time-operations table (S35.1). What is wrong with one row
// does not keep the others from being imported (S35.3).
func readOTO(ctx context.Context, db *sql.DB, table string) (findings, error) {
	switch {
	case db == nil:
		return findings{}, errors.New("there is no database to read from: mount the command with cli.WithDB")
	case !tableName.MatchString(table):
		return findings{}, usagef("--table %q: want an unquoted table name", table)
	}
	rows, err := db.QueryContext(ctx, `SELECT name, dispatched, processed_at FROM `+table+` WHERE processed_at IS NOT NULL`)
	if err != nil {
		return findings{}, fmt.Errorf("reading %s, which needs the columns name, dispatched and processed_at: %w", table, err)
	}
	defer rows.Close()
	var found findings
	for n := 1; rows.Next(); n++ {
		var name, dispatched sql.NullString
		var processed any
		if err := rows.Scan(&name, &dispatched, &processed); err != nil {
			return found, fmt.Errorf("reading %s: %w", table, err)
		}
		e, err := otoExecution(name, dispatched, processed)
		if err != nil {
			found.problems = append(found.problems, fmt.Sprintf("%s, row %d: %v", table, n, err))
			continue
		}
		found.rows = append(found.rows, e)
	}
	slices.SortStableFunc(found.rows, func(a, b storage.Execution) int { return a.FinishedAt.Compare(b.FinishedAt) })
	return found, rows.Err()
}

func otoExecution(name, dispatched sql.NullString, processed any) (storage.Execution, error) {
	text := strings.TrimSpace(name.String)
	text = strings.TrimSuffix(text, path.Ext(text))
	at, err := instant(processed)
	switch {
	case !name.Valid || text == "":
		return storage.Execution{}, errors.New("the name is missing")
	case !storedName.MatchString(text) || len(text) > storage.MaxName:
		return storage.Execution{}, fmt.Errorf("the name %.140q is none for an operation", text)
	case err != nil:
		return storage.Execution{}, fmt.Errorf("%s: processed_at: %w", text, err)
	case !dispatched.Valid:
		return storage.Execution{}, fmt.Errorf("%s: dispatched is missing", text)
	}
	e := storage.Execution{Name: text, Kind: storage.Unlisted, Method: "sync", CreatedAt: at, StartedAt: at, FinishedAt: at}
	if orderedName.MatchString(text) {
		e.Kind = storage.Ordered
	}
	if strings.EqualFold(dispatched.String, "async") {
		e.Method = "async"
	}
	return e, nil
}

// instant reads what a driver makes of a timestamp column.
func instant(v any) (time.Time, error) {
	var text string
	switch x := v.(type) {
	case time.Time:
		return x.UTC(), nil
	case string:
		text = x
	case []byte:
		text = string(x)
	default:
		return time.Time{}, fmt.Errorf("%v is no time", v)
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", text)
}
