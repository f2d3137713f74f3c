package sqlite

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// selection is the end of a SELECT, put together from constants; what a caller
// gave is only ever an argument.
type selection struct {
	from       string
	conditions []string
	args       []any
	order      string
	limit      int
}

func (s *selection) and(condition string, args ...any) {
	s.conditions = append(s.conditions, condition)
	s.args = append(s.args, args...)
}

// text is the whole statement; its last argument is the limit.
func (s *selection) text(columns string) string {
	query := `SELECT` + columns + ` FROM ` + s.from
	if len(s.conditions) > 0 {
		query += ` WHERE ` + strings.Join(s.conditions, ` AND `)
	}
	s.args = append(s.args, s.limit)
	return query + s.order + ` LIMIT ?`
}

// stateIs has the condition for each state as a literal, because SQLite uses the
// partial index of troubled rows only for a condition that it can read.
var stateIs = map[storage.State]string{
	storage.Pending:     `state = 'pending'`,
	storage.Running:     `state = 'running'`,
	storage.Completed:   `state = 'completed'`,
	storage.Failed:      `state = 'failed'`,
	storage.Skipped:     `state = 'skipped'`,
	storage.Cancelled:   `state = 'cancelled'`,
	storage.Interrupted: `state = 'interrupted'`,
	storage.RolledBack:  `state = 'rolled_back'`,
}

// listing turns a filter into SQL, its parts combined with AND.
func listing(f storage.Filter) (*selection, error) {
	s := &selection{from: `sequencer_executions AS x`, limit: page(f.Limit)}
	at, id := `created_at`, `id`
	if byTag(&f) {
		at, id = `at`, `execution_id`
		s.from = `sequencer_tags CROSS JOIN sequencer_executions AS x ON id = execution_id`
		s.and(`tag = ?`, f.Tag)
	} else if f.Tag != "" {
		s.and(`EXISTS (SELECT 1 FROM sequencer_tags WHERE tag = ? AND at = created_at AND execution_id = id)`, f.Tag)
	}
	s.order = ` ORDER BY ` + at + ` DESC, ` + id + ` DESC`
	after := `(` + at + `, ` + id + `) < (?, ?)`
	if f.Oldest {
		s.order, after = ` ORDER BY `+at+`, `+id, `(`+at+`, `+id+`) > (?, ?)`
	}
	if f.After != nil {
		s.and(after, f.After.At.UnixMicro(), f.After.ID[:])
	}
	if !f.Since.IsZero() {
		s.and(at+` >= ?`, f.Since.UnixMicro())
	}
	if !f.Until.IsZero() {
		s.and(at+` < ?`, f.Until.UnixMicro())
	}
	if len(f.IDs) > 0 {
		s.and(`id IN (SELECT unhex(value) FROM json_each(?))`, idsOf(f.IDs))
	}
	if f.IDPrefix != "" {
		low, high, err := idRange(f.IDPrefix)
		if err != nil {
			return nil, err
		}
		s.and(`id BETWEEN ? AND ?`, low, high)
	}
	if len(f.States) > 0 {
		var either []string
		for _, state := range f.States {
			if is, known := stateIs[state]; known && !slices.Contains(either, is) {
				either = append(either, is)
			}
		}
		if len(either) == 0 {
			either = []string{`false`}
		}
		s.and(`(` + strings.Join(either, ` OR `) + `)`)
	}
	if len(f.Kinds) > 0 {
		s.and(`kind IN (SELECT value FROM json_each(?))`, listOf(texts(f.Kinds)))
	}
	switch {
	case strings.Contains(f.Name, "*"):
		s.and(`name GLOB ?`, globOf(f.Name))
	case f.Name != "":
		s.and(`name = ?`, f.Name)
	}
	for _, part := range []struct{ condition, value string }{
		{`queue = ?`, f.Queue},
		{`member = ?`, f.Member},
		{`method = ?`, f.Method},
		{`error_group <> '' AND error_group = ?`, f.Group},
		{`unique_key = ?`, f.UniqueKey},
	} {
		if part.value != "" {
			s.and(part.condition, part.value)
		}
	}
	for _, part := range []struct {
		condition string
		value     storage.ID
	}{
		{`flow_id = ?`, f.FlowID},
		{`undoes = ?`, f.Undoes},
		{`worker_id = ?`, f.WorkerID},
	} {
		if !part.value.IsZero() {
			s.and(part.condition, part.value[:])
		}
	}
	return s, nil
}

// byTag reports a filter for which the rows of its tag are walked, in the order of the
// listing: nothing else in it leads to fewer.
func byTag(f *storage.Filter) bool {
	led := len(f.IDs) > 0 || f.IDPrefix != "" || f.Group != "" || f.UniqueKey != "" || !f.FlowID.IsZero() || !f.Undoes.IsZero() || !f.WorkerID.IsZero()
	troubled := len(f.States) > 0 && !slices.ContainsFunc(f.States, func(s storage.State) bool { return s != storage.Failed && s != storage.Interrupted })
	return f.Tag != "" && !led && !troubled
}

// globOf makes a GLOB pattern in which * alone is special. GLOB tells case apart
// and takes an underscore literally, which LIKE does not.
func globOf(pattern string) string {
	return strings.NewReplacer("[", "[[]", "?", "[?]").Replace(pattern)
}

// idRange is the lowest and the highest id that begin with a prefix of the text
// form. What is no such prefix begins no id.
func idRange(prefix string) (low, high []byte, err error) {
	if len(prefix) < 8 {
		return nil, nil, fmt.Errorf("prefix %q of an id is shorter than 8 characters", prefix)
	}
	digits := strings.ReplaceAll(strings.ToLower(prefix), "-", "")
	bound := func(fill string) []byte {
		if len(digits) > 32 {
			return []byte{}
		}
		b, err := hex.DecodeString(digits + strings.Repeat(fill, 32-len(digits)))
		if err != nil {
			return []byte{}
		}
		return b
	}
	return bound("0"), bound("f"), nil
}
