package sqlite

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// The index has the candidates in the order of their names, and those of one name
// from the oldest to the newest, with all that decides; the newest of each is
// picked here, at less than a window function costs.
//
// All of them arrive in one text, a line each: one row of eight columns takes the
// driver longer than SQLite needs to find it. Names may hold anything, so they stand
// behind their length.
const newest = `
SELECT group_concat(line, char(10)) FROM (
	SELECT hex(id) || ' ' || kind || ' ' || state || ' ' || for_now || ' ' || created_at || ' ' || coalesce(finished_at, '') || ' ' ||
		octet_length(checksum) || ' ' || checksum || octet_length(name) || ' ' || name AS line
	FROM sequencer_executions INDEXED BY sequencer_executions_newest
	WHERE (kind = 'ordered' OR kind = 'migration')
		AND state <> 'cancelled' AND NOT (state = 'skipped' AND environment <> '' AND environment <> ?)
	ORDER BY kind, name, created_at, id
)`

// Newest lists the effective row of each ordered operation and migration: of those
// that are not over the latest, else the latest of all.
func (s *Store) Newest(ctx context.Context, r storage.NewestRequest) ([]storage.Effective, error) {
	var lines sql.NullString
	err := s.read(ctx, func(rows *sql.Rows) error { return rows.Scan(&lines) }, newest, r.Environment)
	if err != nil {
		return []storage.Effective{}, s.fail("read the newest executions", err)
	}
	effective := make([]storage.Effective, 0, strings.Count(lines.String, "\n")+1)
	for rest := lines.String; rest != ""; {
		var e storage.Effective
		if e, rest, err = cutEffective(rest); err != nil {
			return []storage.Effective{}, s.fail("read the newest executions", err)
		}
		switch last := len(effective) - 1; {
		case last < 0 || effective[last].Name != e.Name || effective[last].Kind != e.Kind:
			effective = append(effective, e)
		case effective[last].State.Over() || !e.State.Over():
			effective[last] = e
		}
	}
	return effective, nil
}

// cutEffective reads the first line of those that the query makes. The texts in what
// it returns are parts of them.
func cutEffective(lines string) (e storage.Effective, rest string, err error) {
	rest = lines
	field := func() (text string) {
		text, rest, _ = strings.Cut(rest, " ")
		return text
	}
	number := func() int64 {
		text := field()
		if text == "" {
			return 0
		}
		n, bad := strconv.ParseInt(text, 10, 64)
		if bad != nil && err == nil {
			err = bad
		}
		return n
	}
	measured := func() (text string) {
		n := number()
		if n < 0 || n > int64(len(rest)) {
			n, err = 0, fmt.Errorf("a text of %d bytes where %d are left", n, len(rest))
		}
		text, rest = rest[:n], rest[n:]
		return text
	}
	if id := field(); len(id) != 2*len(e.ID) {
		return e, "", fmt.Errorf("an id has %d digits", len(id))
	} else if _, err := hex.Decode(e.ID[:], []byte(id)); err != nil {
		return e, "", err
	}
	e.Kind, e.State, e.ForNow = storage.Kind(field()), storage.State(field()), number() != 0
	e.CreatedAt = time.UnixMicro(number()).UTC()
	if finished := number(); finished != 0 {
		e.FinishedAt = time.UnixMicro(finished).UTC()
	}
	e.Checksum, e.Name = measured(), measured()
	return e, strings.TrimPrefix(rest, "\n"), err
}
