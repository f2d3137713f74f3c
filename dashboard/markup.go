package dashboard

import (
	"bytes"
	"fmt"
	"html"
	"slices"
	"strings"
)

// Pages are values: elements, attributes and text, put together by functions and
// written last. A string becomes markup only as text or as the value of an attribute,
// and is escaped there, so nothing that a ledger holds can be more than text. Names of
// tags and attributes are constants of this package.

// part is what an element is made of: an attribute, or a node inside it.
type part interface{ into(e *element) }

// node is a part that can stand by itself.
type node interface {
	part
	render(b *bytes.Buffer)
}

// text is text.
type text string

func (t text) into(e *element) { e.inside = append(e.inside, t) }

func (t text) render(b *bytes.Buffer) { b.WriteString(escaped(string(t))) }

// textf is formatted text.
func textf(format string, args ...any) text { return text(fmt.Sprintf(format, args...)) }

// escaped is s as text of an element, or inside the quotes of an attribute.
func escaped(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
	return html.EscapeString(s)
}

// attr is an attribute.
type attr struct{ name, value string }

func (a attr) into(e *element) { e.attrs = append(e.attrs, a) }

// flag is an attribute without a value, there or not.
func flag(name string, there bool) part {
	if !there {
		return list(nil)
	}
	return attr{name, ""}
}

func class(names string) attr { return attr{"class", names} }

// list is several parts in the place of one; nil is none.
type list []part

func (l list) into(e *element) {
	for _, p := range l {
		if p != nil {
			p.into(e)
		}
	}
}

func (l list) render(b *bytes.Buffer) {
	for _, p := range l {
		if n, ok := p.(node); ok {
			n.render(b)
		}
	}
}

// element is a tag with what is in it.
type element struct {
	tag    string
	attrs  []attr
	inside []node
}

func el(tag string, parts ...part) *element {
	e := &element{tag: tag}
	list(parts).into(e)
	return e
}

func (e *element) into(outer *element) {
	if e != nil {
		outer.inside = append(outer.inside, e)
	}
}

// void elements have no end.
var void = []string{"br", "col", "hr", "img", "input", "link", "meta"}

func (e *element) render(b *bytes.Buffer) {
	b.WriteByte('<')
	b.WriteString(e.tag)
	for _, a := range e.attrs {
		b.WriteByte(' ')
		b.WriteString(a.name)
		b.WriteString(`="`)
		b.WriteString(escaped(a.value))
		b.WriteByte('"')
	}
	b.WriteByte('>')
	if slices.Contains(void, e.tag) {
		return
	}
	for _, n := range e.inside {
		n.render(b)
	}
	b.WriteString("</")
	b.WriteString(e.tag)
	b.WriteByte('>')
}

// attribute is the value of one, "" if it is not there.
func (e *element) attribute(name string) string {
	for _, a := range e.attrs {
		if a.name == name {
			return a.value
		}
	}
	return ""
}

// walk calls fn with an element and all elements inside it, from the outside.
func walk(n node, fn func(e *element)) {
	switch n := n.(type) {
	case *element:
		if n == nil {
			return
		}
		fn(n)
		for _, inner := range n.inside {
			walk(inner, fn)
		}
	case list:
		for _, p := range n {
			if inner, ok := p.(node); ok {
				walk(inner, fn)
			}
		}
	}
}

// written is a node as bytes.
func written(n node) []byte {
	var b bytes.Buffer
	n.render(&b)
	return b.Bytes()
}
