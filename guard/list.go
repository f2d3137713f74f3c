package guard

import (
	"fmt"
	"slices"
	"strings"
)

// names returns the entries without surrounding space. An entry that is empty
// then is an error: it comes from a trailing comma or from splitting an unset
// variable, and nobody can say what it should allow.
func names(guard string, list []string) ([]string, error) {
	list = slices.Clone(list)
	for i, s := range list {
		if list[i] = strings.TrimSpace(s); list[i] == "" {
			return nil, fmt.Errorf("%s guard: entry %d of %d is empty", guard, i+1, len(list))
		}
	}
	return list, nil
}

// some lists entries for a reason, the first few of many.
func some[T fmt.Stringer](list []T) string {
	const most = 8
	var b strings.Builder
	for i, v := range list {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(list)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(v.String())
	}
	return b.String()
}
