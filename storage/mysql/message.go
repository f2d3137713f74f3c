package mysql

import (
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Lists have no form of their own on this server. An argument that is one takes the
// place of its question mark: ids and texts as "?, ?, ?" inside the parentheses that
// the statement has, rows as "(…), (…)", each spelled as the statement says.

// idList is a list of ids, for IN. None is a null, which equals nothing.
type idList []storage.ID

// textList is a list of texts, for IN.
type textList []string

// tuples are the rows of a VALUES list.
type tuples struct {
	spelling string // of one, with a question mark for each value
	values   [][]any
}

// message is one or more statements as they are sent.
type message struct {
	text    strings.Builder
	args    []any
	size    int // of the arguments, in bytes
	answers []func(scanner) error
}

// add adds a statement, and the question how many rows it wrote where that matters.
func (m *message) add(st *statement) {
	if m.text.Len() > 0 {
		m.write(";\n")
	}
	m.spell(st)
	if st.scan != nil {
		m.answers = append(m.answers, st.scan)
	}
	if st.affected != nil {
		m.write(";\nSELECT ROW_COUNT()")
		m.answers = append(m.answers, func(r scanner) error { return r.Scan(st.affected) })
	}
}

func (m *message) write(s string) { _, _ = m.text.WriteString(s) } // a Builder takes everything

// spell writes a statement with its lists spelled out.
func (m *message) spell(st *statement) {
	m.size += weight(st.args)
	rest := st.sql
	for _, a := range st.args {
		before, after, _ := strings.Cut(rest, "?")
		m.write(before)
		rest = after
		switch list := a.(type) {
		case idList:
			spellList(m, list, idArg)
		case textList:
			spellList(m, list, func(s string) any { return []byte(s) })
		case tuples:
			for i, values := range list.values {
				if i > 0 {
					m.write(", ")
				}
				m.write(list.spelling)
				m.args = append(m.args, values...)
			}
		default:
			m.write("?")
			m.args = append(m.args, a)
		}
	}
	m.write(rest)
}

func spellList[T any](m *message, list []T, arg func(T) any) {
	if len(list) == 0 {
		m.write("NULL")
	}
	for i, v := range list {
		if i > 0 {
			m.write(", ")
		}
		m.write("?")
		m.args = append(m.args, arg(v))
	}
}

// weight is about how much room arguments take.
func weight(args []any) int {
	n := 0
	for _, a := range args {
		switch v := a.(type) {
		case []byte:
			n += len(v)
		case idList:
			n += 16 * len(v)
		case textList:
			for _, s := range v {
				n += len(s)
			}
		case tuples:
			for _, values := range v.values {
				n += weight(values)
			}
		default:
			n += 8
		}
	}
	return n
}

// some parts a list, so that no statement has more of it than the server takes in
// stride: from a thousand on MariaDB makes a table of the list and reads the other
// one in full, and so does MySQL when it runs out of memory for it.
func some[L ~[]T, T any](list L) []L {
	const most = 900
	parts := make([]L, 0, 1+len(list)/most)
	for len(list) > most {
		parts, list = append(parts, list[:most]), list[most:]
	}
	if len(list) > 0 {
		parts = append(parts, list)
	}
	return parts
}

// micro brings an instant to the precision that the ledger keeps.
func micro(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// at passes an instant; the zero one as null.
func at(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// idArg passes an id; none as null.
func idArg(id storage.ID) any {
	if id.IsZero() {
		return nil
	}
	return id[:]
}

// text passes a text. As bytes it is nobody's to convert.
func text(s string) any { return []byte(s) }

// textArg passes a text; none as null.
func textArg(s string) any {
	if s == "" {
		return nil
	}
	return []byte(s)
}

// numberArg passes a number; zero as null.
func numberArg[N ~int64](n N) any {
	if n == 0 {
		return nil
	}
	return int64(n)
}

// bytesArg passes bytes; nil as null, empty ones as they are.
func bytesArg(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}
