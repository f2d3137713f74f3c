// Package fingerprint tells whether two states of a database are the same: a digest for
// each table, index, view and trigger of the user's, of what it is declared as and of
// the rows it holds, whatever their order. It reads everything, and is for databases
// that were made to be tried out.
package fingerprint

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strings"
)

// ours are tables of the ledger and of migration tools, which remember what happened.
var ours = regexp.MustCompile(`^(sequencer_|goose_|sqlite_)`)

// dialect is how one kind of database is asked.
type dialect struct {
	// objects lists name, declaration, and whether it has rows.
	objects string
	rows    func(name string) string
	// declaration, when set, asks for the declaration of one object.
	declaration func(name string) string
}

var dialects = map[string]dialect{
	"sqlite": {
		objects: `SELECT name, coalesce(sql, ''), type = 'table' FROM sqlite_master WHERE sql IS NOT NULL`,
		rows:    func(name string) string { return `SELECT * FROM "` + strings.ReplaceAll(name, `"`, `""`) + `"` },
	},
	"postgres": {
		objects: `
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), coalesce((
		SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), ''), ', ' ORDER BY a.attnum)
		FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	), '') || coalesce((
		SELECT string_agg(conname || ' ' || pg_get_constraintdef(k.oid), ', ' ORDER BY conname) FROM pg_constraint k WHERE k.conrelid = c.oid
	), '') || CASE c.relkind WHEN 'i' THEN pg_get_indexdef(c.oid) WHEN 'v' THEN pg_get_viewdef(c.oid) ELSE '' END,
	c.relkind IN ('r', 'p')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'i', 'v') AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
	AND (n.nspname = ANY (current_schemas(false)) OR current_schema() = 'public')
	AND NOT EXISTS (SELECT 1 FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid WHERE x.indexrelid = c.oid AND t.relname ~ '^(sequencer_|goose_)')`,
		rows: func(name string) string { return `SELECT t::text FROM ONLY ` + name + ` t` },
	},
	"mysql": {
		objects:     `SELECT table_name, '', table_type = 'BASE TABLE' FROM information_schema.tables WHERE table_schema = DATABASE()`,
		rows:        func(name string) string { return "SELECT * FROM `" + strings.ReplaceAll(name, "`", "``") + "`" },
		declaration: func(name string) string { return "SHOW CREATE TABLE `" + strings.ReplaceAll(name, "`", "``") + "`" },
	},
}

// Of reads the database of a ledger whose store has this name; on PostgreSQL all schemas,
// or where the search path was set those on it. What counts up whatever happens, sequences
// and the like, is not part of it.
func Of(ctx context.Context, db *sql.DB, store string) (map[string]string, error) {
	d, known := dialects[store]
	if !known {
		return nil, fmt.Errorf("a %s ledger has no tables to compare", store)
	}
	prints, rowed := map[string]hash.Hash{}, []string{}
	err := each(ctx, db, d.objects, func(row *sql.Rows) error {
		var name, declared string
		var hasRows bool
		if err := row.Scan(&name, &declared, &hasRows); err != nil {
			return err
		}
		if ours.MatchString(name[strings.LastIndex(name, ".")+1:]) {
			return nil
		}
		prints[name] = sha256.New()
		_, _ = prints[name].Write([]byte(declared)) // a hash takes everything
		if hasRows {
			rowed = append(rowed, name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name, p := range prints {
		if d.declaration == nil {
			break
		}
		if err := d.declare(ctx, db, name, p); err != nil {
			return nil, err
		}
	}
	for _, name := range rowed {
		sum, err := content(ctx, db, d.rows(name))
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		_, _ = prints[name].Write(sum)
	}
	all := make(map[string]string, len(prints))
	for name, p := range prints {
		all[name] = hex.EncodeToString(p.Sum(nil))
	}
	return all, nil
}

// counts is what a table of MySQL will number its next row with.
var counts = regexp.MustCompile(`AUTO_INCREMENT=\d+ `)

func (d dialect) declare(ctx context.Context, db *sql.DB, name string, print hash.Hash) error {
	return each(ctx, db, d.declaration(name), func(row *sql.Rows) error {
		values, err := read(row)
		for _, v := range values {
			_, _ = print.Write(counts.ReplaceAll(v, nil))
		}
		return err
	})
}

// content adds up the digests of all rows, so that their order does not matter and
// equal ones count.
func content(ctx context.Context, db *sql.DB, query string) ([]byte, error) {
	var sum [4]uint64
	err := each(ctx, db, query, func(row *sql.Rows) error {
		values, err := read(row)
		digest := sha256.New()
		for _, v := range values {
			size := make([]byte, 8)
			binary.BigEndian.PutUint64(size, uint64(len(v)))
			if v == nil { // not the same as empty
				size[0] = 0xff
			}
			_, _ = digest.Write(size)
			_, _ = digest.Write(v)
		}
		for i, whole := 0, digest.Sum(nil); i < len(sum); i++ {
			sum[i] += binary.BigEndian.Uint64(whole[8*i:])
		}
		return err
	})
	var text []byte
	for _, part := range sum {
		text = binary.BigEndian.AppendUint64(text, part)
	}
	return text, err
}

// read returns the columns of a row as bytes, as the driver spells them.
func read(row *sql.Rows) ([]sql.RawBytes, error) {
	columns, err := row.Columns()
	if err != nil {
		return nil, err
	}
	values, dest := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
	for i := range values {
		dest[i] = &values[i]
	}
	return values, row.Scan(dest...)
}

func each(ctx context.Context, db *sql.DB, query string, f func(*sql.Rows) error) (err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
