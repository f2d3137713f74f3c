package dashboard

import (
	"bytes"
	"strings"
	"testing"
)

func TestWhatALedgerHoldsIsNeverMarkup(t *testing.T) {
	t.Parallel()
	for _, hostile := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onclick='x`, `&lt;b&gt;`, "\x00<b>", "\xff\xfe<b>", "]]><b>", "--><b>", `</title><b>`,
	} {
		got := string(written(el("p", attr{"title", hostile}, text(hostile), el("title", text(hostile)))))
		inside := strings.TrimSuffix(strings.TrimPrefix(got, "<p title="), "</title></p>")
		inside = strings.Replace(inside, "<title>", "", 1)
		inside = strings.Replace(inside, ">", "", 1)
		if strings.ContainsAny(inside, "<>") || strings.Count(inside, `"`) != 2 || strings.Contains(got, "\x00") {
			t.Errorf("%q became %s", hostile, got)
		}
	}
}

func TestElementsAreWrittenAsTheyStand(t *testing.T) {
	t.Parallel()
	var none *element
	got := string(written(list{
		el("p", nil, class("a"), none, list{text("x"), list(nil), list{attr{"id", "b"}}}, el("br"), flag("hidden", true), flag("open", false)), nil, text(" & "),
	}))
	if want := `<p class="a" id="b" hidden="">x<br></p> &amp; `; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var ids []string
	walk(list{el("a", attr{"id", "1"}, el("b", attr{"id", "2"})), nil, el("c", attr{"id", "3"})}, func(e *element) { ids = append(ids, e.attribute("id")) })
	if got := strings.Join(ids, ""); got != "123" {
		t.Errorf("walked %s", got)
	}
}

func FuzzTextStaysText(f *testing.F) {
	f.Add("<a>")
	f.Add("\xed\xa0\x80\"'")
	f.Fuzz(func(t *testing.T, s string) {
		got := written(text(s))
		if bytes.ContainsAny(got, `<>"'`) || bytes.ContainsRune(got, 0) {
			t.Errorf("%q became %q", s, got)
		}
	})
}
