package fileop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAHeaderDeclaresWhatGoCodeDeclaresByMethods(t *testing.T) {
	t.Parallel()
	got, err := ParseHeader("x.sh", []byte(`#!/bin/sh
# A script about money.
#
# sequencer: tries 3
  # sequencer: backoff 10s, 1m
# sequencer: timeout 5m
# sequencer: tags billing
# sequencer: tags nightly, eu
# sequencer: depends migration:users, seed
# sequencer: environments
# sequencer: rollback undo.sh
# sequencer: idempotent
# sequencer: async false
echo "-- not a header"
`))
	if err != nil {
		t.Fatal(err)
	}
	tries := 3
	want := Header{
		Tries: &tries, Backoff: []time.Duration{10 * time.Second, time.Minute}, Timeout: 5 * time.Minute,
		Tags: []string{"billing", "nightly", "eu"}, Depends: []string{"migration:users", "seed"}, Bound: true,
		Rollback: "undo.sh", Idempotent: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFaultOfAHeaderHasItsLine(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"-- sequencer: retries 3":                      `unknown key "retries": the keys are `,
		"-- sequencer: tries 0":                        "tries 0: want a whole number of at least 1",
		"-- sequencer: backoff 10":                     "want durations such as",
		"-- sequencer: backoff":                        "the value is missing",
		"-- sequencer: async maybe":                    "want nothing, true or false",
		"-- sequencer: rollback ../x.sql":              "want the name of a file in the same directory",
		"-- sequencer: transaction always":             `want "never" or "require"`,
		"-- sequencer: timeout -1s":                    "want durations such as",
		"-- sequencer: schedule 0 25 * * *":            "schedule 0 25 * * *: column 3, hour: ",
		"-- sequencer: schedule-zone Moon/Tycho":       `time zone "Moon/Tycho" is unknown`,
		"-- sequencer: schedule-missed all":            "want skip, once, or all and how many",
		"-- sequencer: schedule-missed all 0":          "want a whole number of at least 1",
		"-- sequencer:":                                `unknown key ""`,
		"select 1;\n-- sequencer: tries 3":             "below the first statement has no effect",
		"-- sequencer: tries 1\n-- sequencer: tries 2": "tries is given twice, first in line 1",
	} {
		_, err := ParseHeader("ops/x.sql", []byte("-- sequencer: tags a\n\n"+strings.Replace(line, "first in line 1", "", 1)))
		if err == nil || !strings.Contains(err.Error(), strings.Replace(want, "line 1", "line 3", 1)) {
			t.Errorf("%q: got %v, want %q", line, err, want)
			continue
		}
		if !strings.HasPrefix(err.Error(), "ops/x.sql:") {
			t.Errorf("%q: %v does not start with file and line", line, err)
		}
	}
}

// Whatever stands in a file, the parser answers, and what it accepts holds no
// value that a registry or a terminal could choke on.
func FuzzParseHeader(f *testing.F) {
	f.Add([]byte("-- sequencer: tries 3\n-- sequencer: backoff 1s,2s\nselect 1;"))
	f.Add([]byte("#!/bin/sh\r\n# sequencer: rollback x.sh\r\n// sequencer: tags \x1b[31m\n"))
	f.Add([]byte("\ufeff-- sequencer: environments\n\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := ParseHeader("f.sql", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.sql:") {
				t.Fatalf("%v does not name the file", err)
			}
			return
		}
		again, err := ParseHeader("f.sql", text)
		if err != nil || !cmp.Equal(h, again) {
			t.Fatalf("two readings differ: %v\n%s", err, cmp.Diff(h, again))
		}
		if h.Tries != nil && *h.Tries < 1 || h.Timeout < 0 || strings.ContainsAny(h.Rollback, "/\x00\n") {
			t.Fatalf("accepted %+v", h)
		}
		for _, s := range append(append(h.Tags, h.Depends...), h.Environments...) {
			if s == "" || strings.TrimSpace(s) != s || strings.Contains(s, ",") {
				t.Fatalf("accepted %q", s)
			}
		}
	})
}

func TestADirectoryIsReadWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, mode os.FileMode, text string) {
		t.Helper()
		if err := os.WriteFile(dir+"/"+name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("20240101000000_seed.sql", 0o644, "-- sequencer: rollback 20240101000000_seed.undo.sql\nselect 1;")
	write("20240101000000_seed.undo.sql", 0o644, "select 2;")
	write("2024_01_02_000000_warm.sh", 0o755, "#!/bin/sh\n")
	write("20240103000000_data.csv", 0o644, "a,b")
	write("README.md", 0o644, "read me")
	write(".hidden", 0o644, "")
	set, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range set.Files {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"20240101000000_seed", "2024_01_02_000000_warm"}, names); diff != "" {
		t.Error(diff)
	}
	if len(set.Notices) != 2 {
		t.Errorf("notices: %q", set.Notices)
	}
}

func TestDependenciesWithoutAKindAreFound(t *testing.T) {
	t.Parallel()
	set := &Set{Files: []*File{{Name: "20240101000000_seed"}, {Name: "20240102000000_users"}, {Name: "2024_01_03_000000_old"}}}
	migrations := []string{"20240101120000_users", "20240104000000_orders"}
	for word, want := range map[string]string{
		"seed":                           "operation 20240101000000_seed",
		"20240101000000":                 "operation 20240101000000_seed",
		"old":                            "operation 2024_01_03_000000_old",
		"orders":                         "migration 20240104000000_orders",
		"20240101120000_users":           "migration 20240101120000_users",
		"migration:20240101120000_users": "migration 20240101120000_users",
		"operation:anything":             "operation anything",
		"users":                          "it may mean operation 20240102000000_users or migration 20240101120000_users: write operation:NAME or migration:NAME",
		"nothing":                        "unknown dependency: no operation and no migration has that name or timestamp; correct it, or add the file that it means",
	} {
		d, err := set.dependency(word, migrations)
		got := d.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}

// SQLite would take the NUL byte as the end, and pass over what follows.
func TestSQLThatIsNoTextIsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"cut short": "select 1;\x00select 2;", "another encoding": "select 'caf\xe9';", "UTF-16": "\xff\xfes\x00e\x00l\x00",
	} {
		for file, other := range map[string]string{"20240101000000_a.sql": "", "undo.sql": "-- sequencer: rollback undo.sql\nselect 1;"} {
			dir := t.TempDir()
			write := func(file, text string) {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if other != "" {
				write("20240101000000_a.sql", other)
			}
			write(file, text)
			if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), file+": it is not UTF-8 text") {
				t.Errorf("%s in %s: got %v, want an error that names it", name, file, err)
			}
		}
	}
}
