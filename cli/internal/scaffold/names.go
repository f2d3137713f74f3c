package scaffold

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// split finds the words of a name in any spelling. An acronym is one word:
// SyncWithAPI is sync, with, API, and HTTPServer is HTTP, Server. Accents are
// dropped, since the ledger's names are plain letters.
func split(name string) ([]string, error) {
	var words []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			words = append(words, string(word))
			word = nil
		}
	}
	runes := []rune(norm.NFD.String(name))
	runes = slices.DeleteFunc(runes, func(r rune) bool { return unicode.Is(unicode.Mn, r) })
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			end()
			continue
		case r > unicode.MaxASCII:
			return nil, fmt.Errorf("the name %q contains %q: use plain letters and digits", name, r)
		case unicode.IsUpper(r) && len(word) > 0:
			before := word[len(word)-1]
			if !unicode.IsUpper(before) || i+1 < len(runes) && unicode.IsLower(runes[i+1]) {
				end()
			}
		}
		word = append(word, r)
	}
	end()
	if len(words) == 0 || !unicode.IsLetter(rune(words[0][0])) {
		return nil, fmt.Errorf("the name %q does not start with a letter: the timestamp is added by itself", name)
	}
	if special[strings.ToLower(words[len(words)-1])] {
		words = append(words, "Operation")
	}
	return words, nil
}

// snake is the words as the ledger and the file write them.
func snake(words []string) string { return strings.ToLower(strings.Join(words, "_")) }

// camel is the words as a Go type writes them.
func camel(words []string) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteString(strings.ToUpper(w[:1]) + w[1:])
	}
	return b.String()
}

// special are the last words that make go build treat a file otherwise: a test,
// or one for another machine.
var special = func() map[string]bool {
	m := map[string]bool{"test": true}
	for w := range strings.FieldsSeq(`aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd
		plan9 solaris wasip1 windows zos 386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv
		riscv64 s390x sparc sparc64 wasm`) {
		m[w] = true
	}
	return m
}()
