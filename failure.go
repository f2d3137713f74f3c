package sequencer

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// Limits on what is stored of an error.
const (
	maxMessage = 8 << 10
	maxTrace   = 32 << 10
)

// failureOf describes an error for the ledger: type, message, trace, and the code
// if it has one (S30.1, S30.4).
func failureOf(err error, how string) *storage.Failure {
	f := &storage.Failure{Outcome: how, Type: errorType(err), Message: shorten(err.Error(), maxMessage)}
	var p *PanicError
	var coded interface{ Code() int }
	if errors.As(err, &p) {
		f.Trace = shorten(p.Stack, maxTrace)
	} else {
		f.Trace = shorten(unwrapChain(err), maxTrace)
	}
	if errors.As(err, &coded) {
		context, _ := json.Marshal(map[string]int{"code": coded.Code()})
		f.Context = string(context)
	}
	return f
}

// errorType is the Go type of the error that says most: the innermost that is not
// one of the standard wrappers.
func errorType(err error) string {
	name := fmt.Sprintf("%T", err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		if t := fmt.Sprintf("%T", e); !strings.HasPrefix(t, "*fmt.") && t != "*sequencer.signal" && t != "*errors.joinError" {
			name = t
			if t != "*errors.errorString" {
				return t
			}
		}
	}
	return name
}

// unwrapChain lists the errors inside err, outermost first.
func unwrapChain(err error) string {
	var b strings.Builder
	var walk func(err error, depth int)
	walk = func(err error, depth int) {
		if err == nil || b.Len() > maxTrace {
			return
		}
		fmt.Fprintf(&b, "%s%T: %v\n", strings.Repeat("  ", depth), err, err)
		switch x := err.(type) { //nolint:errorlint // this prints the unwrapping
		case interface{ Unwrap() error }:
			walk(x.Unwrap(), depth+1)
		case interface{ Unwrap() []error }:
			for _, child := range x.Unwrap() {
				walk(child, depth+1)
			}
		}
	}
	walk(err, 0)
	return strings.TrimSuffix(b.String(), "\n")
}

// varying is what differs between two occurrences of one cause.
var varying = regexp.MustCompile(`"[^"]*"|'[^']*'|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|0x[0-9a-fA-F]+|\d+`)

// errorGroup hashes operation, error type and message without numbers and quoted
// text, so that equal causes meet.
func errorGroup(name string, f *storage.Failure) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%s", name, f.Type, varying.ReplaceAllString(f.Message, "#"))
	return hex.EncodeToString(h.Sum(nil))
}

func shorten(s string, limit int) string {
	if len(s) <= limit {
		return strings.ToValidUTF8(s, "�")
	}
	return strings.ToValidUTF8(s[:limit-3], "") + "…"
}
