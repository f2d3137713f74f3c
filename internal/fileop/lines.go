package fileop

import (
	"bytes"
	"strings"
)

const (
	tailLines = 5       // how many last lines an error shows
	maxLine   = 4 << 10 // a longer one is passed on in pieces
)

// lines passes a program's output on line by line and remembers the last ones.
// It serves one goroutine.
type lines struct {
	log  func(line string)
	mask *strings.Replacer // takes secrets out
	part []byte
	kept []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		end := bytes.IndexByte(l.part, '\n')
		switch {
		case end >= 0:
			l.pass(l.part[:end])
			l.part = l.part[end+1:]
		case len(l.part) >= maxLine:
			l.pass(l.part)
			l.part = nil
		default:
			return len(p), nil
		}
	}
}

// Close passes on a last line without an end.
func (l *lines) Close() error {
	if len(l.part) > 0 {
		l.pass(l.part)
		l.part = nil
	}
	return nil
}

func (l *lines) pass(line []byte) {
	text := strings.TrimRight(strings.ToValidUTF8(string(line), "�"), "\r ")
	if l.mask != nil {
		text = l.mask.Replace(text)
	}
	if text == "" {
		return
	}
	l.log(text)
	l.kept = append(l.kept, text)
	if len(l.kept) > tailLines {
		l.kept = l.kept[1:]
	}
}

func (l *lines) tail() string { return strings.Join(l.kept, "\n") }

func (l *lines) last() string {
	if len(l.kept) == 0 {
		return ""
	}
	return l.kept[len(l.kept)-1]
}
