package fileop

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Set is the operations of a directory, by name.
type Set struct {
	Files   []*File
	Notices []string // what lies there and is no operation
	running groups
}

// File is one operation.
type File struct {
	Name   string
	Path   string
	Header Header
	text   string // of an SQL file
	undo   *File  // only Path and text
	fault  error  // what is wrong with it, should it be an operation at all
}

// Ordered reports an operation of runs; the others are executed by name.
func (f *File) Ordered() bool { return f.Name[0] >= '0' && f.Name[0] <= '9' }

// SQL reports whether the file holds statements rather than a program.
func (f *File) SQL() bool { return isSQL(f.Path) }

// Load reads a directory. Everything that is wrong in it comes back at once; a
// directory that cannot be read is an error.
func Load(dir string) (*Set, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading operations: %w", err)
	}
	var set Set
	var faults []error
	ignored := map[string]string{} // path → notice
	for _, e := range entries {
		f, notice, err := load(filepath.Join(dir, e.Name()))
		switch {
		case err != nil:
			faults = append(faults, err)
		case f != nil:
			set.Files = append(set.Files, f)
		case notice != "":
			ignored[filepath.Join(dir, e.Name())] = e.Name() + ": " + notice
		}
	}
	faults = append(faults, set.complete(dir, ignored)...)
	set.Notices = slices.Sorted(maps.Values(ignored))
	return &set, errors.Join(faults...)
}

// load reads one entry of the directory: an operation, or why it is none.
func load(path string) (*File, string, error) {
	base := filepath.Base(path)
	if base[0] == '.' {
		return nil, "", nil
	}
	info, err := os.Stat(path) // through symbolic links, as in a mounted ConfigMap
	switch {
	case err != nil:
		return nil, "", err
	case info.IsDir():
		return nil, "ignored, because it is a directory", nil
	}
	f := &File{Path: path, Name: strings.TrimSuffix(base, filepath.Ext(base))}
	switch {
	case f.Ordered() && !isSQL(path) && !runnable(info):
		return nil, "ignored, because it is neither .sql nor executable", lostItsBit(path)
	case !isSQL(path) && !runnable(info):
		return nil, "ignored, because its name does not start with a timestamp, and it is neither .sql nor executable", nil
	case !f.Ordered():
		f.fault = f.read()
		return f, "", nil
	}
	if err := checkName(f.Name); err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	if err := f.read(); err != nil {
		return nil, "", err
	}
	return f, "", nil
}

// read takes in what the file says.
func (f *File) read() error {
	path := f.Path
	text, err := os.ReadFile(path)
	if err == nil && f.SQL() {
		err = checkText(path, text)
	}
	if err != nil {
		return err
	}
	if isText(text) { // a compiled program has no comments
		if f.Header, err = ParseHeader(path, text); err != nil {
			return err
		}
	}
	if f.SQL() {
		f.text = string(text)
		return nil
	}
	if err := checkScript(text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// complete tells operations from rollback files and from what only lies beside
// them, and finds names that are taken twice.
func (s *Set) complete(dir string, ignored map[string]string) (faults []error) {
	rollbacks := map[string]*File{} // path → whose
	for _, f := range s.Files {
		if f.Header.Rollback == "" {
			continue
		}
		undo, err := loadRollback(filepath.Join(dir, f.Header.Rollback))
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: rollback %s: %w", f.Path, f.Header.Rollback, err))
			continue
		}
		f.undo = undo
		rollbacks[undo.Path] = f
		delete(ignored, undo.Path)
	}
	s.Files = slices.DeleteFunc(s.Files, func(f *File) bool {
		none := rollbacks[f.Path] != nil
		if !none && !f.Ordered() && f.fault == nil && reflect.ValueOf(f.Header).IsZero() {
			none = true
			ignored[f.Path] = filepath.Base(f.Path) + ": ignored, because its name does not start with a timestamp and it declares nothing: " +
				`a line "sequencer: description …" makes it an operation that is executed by name`
		}
		return none
	})
	byName := map[string]*File{}
	for _, f := range s.Files {
		if other := byName[f.Name]; other != nil {
			faults = append(faults, fmt.Errorf("two operations of one name, %s: %s and %s: rename one", f.Name, other.Path, f.Path))
		}
		byName[f.Name] = f
		if f.fault != nil {
			faults = append(faults, f.fault)
		}
	}
	return faults
}

func loadRollback(path string) (*File, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("there is no such file beside it")
	case err != nil:
		return nil, err
	case !isSQL(path) && !runnable(info):
		return nil, errors.New("it is neither .sql nor executable")
	}
	text, err := os.ReadFile(path)
	switch {
	case err != nil:
		return nil, err
	case !isSQL(path):
		return &File{Path: path}, checkScript(text)
	}
	return &File{Path: path, text: string(text)}, checkText(path, text)
}

// checkText refuses statements that were damaged, or saved in another encoding.
// SQLite takes a NUL byte as the end of a text, and would pass over the rest.
func checkText(path string, text []byte) error {
	if bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text) {
		return fmt.Errorf("%s: it is not UTF-8 text, or is damaged: save it as UTF-8", path)
	}
	return nil
}

// checkScript finds what would make the kernel refuse a script with an error that
// does not say why.
func checkScript(text []byte) error {
	if runtime.GOOS == "windows" || !isText(text) {
		return nil
	}
	line, _, _ := strings.Cut(string(text), "\n")
	rest, ok := strings.CutPrefix(line, "#!")
	words := strings.Fields(rest)
	switch {
	case !ok || len(words) == 0:
		return errors.New("a script needs a first line that says what runs it, such as #!/bin/sh")
	case strings.HasSuffix(line, "\r"):
		return errors.New("its #! line ends in CRLF, which no system runs: save it with line ends of LF")
	}
	if _, err := os.Stat(words[0]); err != nil {
		return fmt.Errorf("its #! line names %s: there is no such program", words[0])
	}
	if filepath.Base(words[0]) == "env" && len(words) > 1 && !strings.HasPrefix(words[1], "-") && !strings.Contains(words[1], "=") {
		if _, err := exec.LookPath(words[1]); err != nil {
			return fmt.Errorf("its #! line names %s: there is no such program in PATH", words[1])
		}
	}
	return nil
}

// lostItsBit is an error for a script that a copy or an archive made unusable: to
// pass over it would look as if there was nothing to do.
func lostItsBit(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(text, []byte("#!")) {
		return fmt.Errorf("%s starts with #! and is not executable: chmod +x it", path)
	}
	return nil
}

// checkName tells a malformed timestamp with the file it is in; what else a name
// must be is the registry's to say.
func checkName(name string) error {
	layout := "20060102150405"
	if len(name) > 4 && name[4] == '_' {
		layout = "2006_01_02_150405"
	}
	if len(name) < len(layout)+2 || name[len(layout)] != '_' {
		return errors.New("the name is no timestamp and a word: write it as 20240115120000_seed_admin")
	}
	if _, err := time.Parse(layout, name[:len(layout)]); err != nil {
		return fmt.Errorf("malformed timestamp %s: write YYYYMMDDhhmmss, a date that exists", name[:len(layout)])
	}
	return nil
}

func isSQL(path string) bool { return strings.EqualFold(filepath.Ext(path), ".sql") }

// isText looks for a NUL byte where a compiled program would have one.
func isText(data []byte) bool { return bytes.IndexByte(data[:min(len(data), 8<<10)], 0) < 0 }
