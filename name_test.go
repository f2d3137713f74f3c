package sequencer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestANameSaysWhetherItBelongsToRuns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule, name string
		want       int64
		wrong      string // part of the error
	}{
		{"S2.1 the original's form is ordered", "2024_01_15_120000_seed_admin", 20240115120000, ""},
		{"S2.2 both forms sort by the same digits", "20240115120000_seed_admin", 20240115120000, ""},
		{"S2.1 the rest takes the whole alphabet", "20240115120000_a.b:c/d-e", 20240115120000, ""},
		{"S2.9 a name without digits in front is unlisted", "import_users", 0, ""},
		{"S2.9 digits further on do not matter", "email:v2/20240115120000_x", 0, ""},
		{"S2.9 an underscore in front is unlisted", "_20240115120000_x", 0, ""},
		{"S2.3 month 13", "20241315120000_seed", 0, "month out of range"},
		{"S2.3 February 30", "2024_02_30_120000_seed", 0, "day out of range"},
		{"S2.3 a leap day needs its year", "20230229000000_seed", 0, "day out of range"},
		{"S2.1 the leap day of a leap year exists", "20240229000000_seed", 20240229000000, ""},
		{"S2.3 hour 24", "20240115240000_seed", 0, "hour out of range"},
		{"S2.3 second 60", "20240115235960_seed", 0, "second out of range"},
		{"S2.3 a day without time", "20240115_seed", 0, "starts with a digit but not with a timestamp"},
		{"S2.3 goose's sequential form", "00001_seed", 0, "write YYYYMMDDhhmmss_name"},
		{"S2.3 a digit too many", "202401151200000_seed", 0, "not with a timestamp"},
		{"S2.3 a digit too many in the original's form", "2024_01_15_1200000_seed", 0, "not with a timestamp"},
		{"S2.3 mixed forms", "2024_0115_120000_seed", 0, "not with a timestamp"},
		{"S2.3 dashes are no underscores", "2024-01-15-120000_seed", 0, "not with a timestamp"},
		{"S2.3 a word that starts with a digit", "2fa_reset", 0, "let it start with a letter"},
		{"S2.1 nothing after the timestamp", "20240115120000", 0, "write 20240115120000_ and what the operation does"},
		{"S2.1 only the underscore", "2024_01_15_120000_", 0, "nothing after its timestamp"},
		{"S2.3 no underscore after the timestamp", "20240115120000seed", 0, "not with a timestamp"},
		{"S2.3 an empty name", "", 0, "the name is empty"},
		{"S2.3 a space", "import users", 0, `contains ' ': use letters, digits`},
		{"S2.3 a letter outside the alphabet", "überweisen", 0, `contains 'ü'`},
		{"S2.3 a byte that is no text", "a\xff", 0, "contains"},
		{"S2.3 129 bytes", strings.Repeat("n", 129), 0, "has 129 bytes: 128 is the limit"},
		{"S2.1 128 bytes", strings.Repeat("n", 128), 0, ""},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			got, err := parseName(c.name)
			if got != c.want {
				t.Errorf("parseName(%q) = %d, want %d", c.name, got, c.want)
			}
			if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
				t.Errorf("parseName(%q): error %v, want %q", c.name, err, c.wrong)
			}
		})
	}
}

func TestARunStartsAtATimestampOrNotAtAll(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule, from string
		want       int64
		wrong      string
	}{
		{"S3.6 empty is no filter", "", 0, ""},
		{"S3.7 goose's form", "20240115120000", 20240115120000, ""},
		{"S3.7 the original's form", "2024_01_15_120000", 20240115120000, ""},
		{"S3.7 a whole name", "2024_01_15_120000_seed_admin", 20240115120000, ""},
		{"S3.7 spaces around it", " 20240115120000\n", 20240115120000, ""},
		{"S3.7 a typo", "2024011512000", 0, "for example 20240115120000"},
		{"S3.7 a letter for a digit", "2024O115120000", 0, "not a possible timestamp"},
		{"S3.7 a word", "latest", 0, "not a possible timestamp"},
		{"S3.7 an impossible date", "20240230120000", 0, "no possible date"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			got, err := parseFrom(c.from)
			if got != c.want {
				t.Errorf("parseFrom(%q) = %d, want %d", c.from, got, c.want)
			}
			if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
				t.Errorf("parseFrom(%q): error %v, want %q", c.from, err, c.wrong)
			}
		})
	}
}

// FuzzName holds what every name must satisfy, whatever it is: it is refused, or
// unlisted, or starts with its own version.
func FuzzName(f *testing.F) {
	for _, seed := range []string{
		"", "a", "20240115120000_a", "2024_01_15_120000_a", "2024_01_15_120000", "00000000000000_a", "2fa", "20240230000000_x", "ß", "\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		version, err := parseName(name)
		if err != nil {
			if version != 0 {
				t.Fatalf("parseName(%q) = %d beside %v", name, version, err)
			}
			return
		}
		digits := slices.ContainsFunc([]byte(name[:1]), isDigit)
		if (version != 0) != digits {
			t.Fatalf("parseName(%q) = %d, but its first character says otherwise", name, version)
		}
		if version == 0 {
			return
		}
		if head := fmt.Sprintf("%014d_", version); !strings.HasPrefix(strings.ReplaceAll(name, "_", ""), strings.TrimSuffix(head, "_")) {
			t.Fatalf("parseName(%q) = %d", name, version)
		}
		if from, err := parseFrom(name); err != nil || from != version {
			t.Fatalf("parseFrom(%q) = %d, %v; parseName says %d", name, from, err, version)
		}
	})
}
