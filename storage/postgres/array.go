package postgres

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Many rows travel as one array per column, taken apart by unnest. The arrays are
// Go slices, which pgx and database/sql both pass in every mode of the protocol,
// except ids: those are one text in the form of an array, since that alone is a
// uuid[] everywhere, and is also the fastest to make.
//
// A column in which every row has the default is passed as null: unnest fills a
// missing column with nulls, and the statement puts the default in their place.

// idArray is a uuid[] in its text form; the zero id is null.
func idArray(ids []storage.ID) string {
	b := make([]byte, 0, 2+33*len(ids))
	b = append(b, '{')
	for i := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		if ids[i].IsZero() {
			b = append(b, "NULL"...)
		} else {
			b = hex.AppendEncode(b, ids[i][:]) // uuid takes its digits without hyphens too
		}
	}
	return string(append(b, '}'))
}

// column collects one value per row, or null when all are zero.
func column[R any, V comparable](rows []R, value func(*R) V) any {
	var zero V
	var all []V
	for i := range rows {
		v := value(&rows[i])
		if v == zero && all == nil {
			continue
		}
		if all == nil {
			all = make([]V, len(rows))
		}
		all[i] = v
	}
	if all == nil {
		return nil
	}
	return all
}

// idColumn is column for ids.
func idColumn[R any](rows []R, value func(*R) storage.ID) any {
	ids := make([]storage.ID, len(rows))
	some := false
	for i := range rows {
		ids[i] = value(&rows[i])
		some = some || !ids[i].IsZero()
	}
	if !some {
		return nil
	}
	return idArray(ids)
}

// bytesColumn is column for bytes; nil is null, empty is not.
func bytesColumn[R any](rows []R, value func(*R) []byte) any {
	var all [][]byte
	for i := range rows {
		if v := value(&rows[i]); v != nil {
			if all == nil {
				all = make([][]byte, len(rows))
			}
			all[i] = v
		}
	}
	if all == nil {
		return nil
	}
	return all
}

// timeColumn is column for instants; the zero one is null.
func timeColumn[R any](rows []R, value func(*R) time.Time) any {
	var all []*time.Time
	for i := range rows {
		if v := micro(value(&rows[i])); !v.IsZero() {
			if all == nil {
				all = make([]*time.Time, len(rows))
			}
			all[i] = &v
		}
	}
	if all == nil {
		return nil
	}
	return all
}

// textsColumn is column for lists of texts. unnest would flatten an array of
// arrays, so each list is the text of one.
func textsColumn[R any](rows []R, value func(*R) []string) any {
	return column(rows, func(r *R) string {
		if list := value(r); len(list) > 0 {
			return textArray(list)
		}
		return ""
	})
}

var quoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// textArray is a text[] in its text form.
func textArray(list []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, s := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		_, _ = quoted.WriteString(&b, s) // a Builder takes everything
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

// texts converts a list of a text type.
func texts[T ~string](list []T) []string {
	all := make([]string, len(list))
	for i, v := range list {
		all[i] = string(v)
	}
	return all
}
