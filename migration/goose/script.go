package goose

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	pressly "github.com/pressly/goose/v3"
)

// script is one migration as its name or its registration tells it.
type script struct {
	version int64
	name    string
	path    string             // inside the file system; "" for Go without a file
	goes    *pressly.Migration // nil for SQL
}

// label names the script in errors.
func (s script) label() string { return cmp.Or(s.path, s.name) }

// text is what an SQL file holds; zero for a Go migration.
type text struct {
	data          []byte
	checksum      string
	noTransaction bool
}

func (s script) read(fsys fs.FS) (text, error) {
	if s.goes != nil {
		return text{}, nil
	}
	data, err := fs.ReadFile(fsys, s.path)
	if err != nil {
		return text{}, fmt.Errorf("read migration: %w", err)
	}
	sum := sha256.Sum256(data)
	return text{data: data, checksum: string(hex.AppendEncode(make([]byte, 0, 2*len(sum)), sum[:])), noTransaction: noTransaction(data)}, nil
}

// noTransaction looks for goose's annotation the way goose does: on any line of
// its own, also after Down, in any case, with any spacing around the words.
func noTransaction(sql []byte) bool {
	for line := range bytes.Lines(sql) {
		if !bytes.HasPrefix(line, []byte("--")) || !bytes.Contains(line, []byte("+goose")) {
			continue
		}
		words := strings.Replace(strings.ReplaceAll(string(line), "--", ""), "+goose", "", 1)
		if strings.EqualFold(strings.TrimSpace(words), "NO TRANSACTION") {
			return true
		}
	}
	return false
}

// collect finds the migrations, sorted by version. goose itself passes over files
// whose names it cannot read and folders it cannot open; a deploy tool must not.
func collect(fsys fs.FS, goes []*pressly.Migration) ([]script, error) {
	var problems []error
	registered := map[int64]*script{}
	scripts := make([]*script, 0, len(goes))
	for i, m := range goes {
		if err := checkGo(m); err != nil {
			problems = append(problems, fmt.Errorf("goose: Go: migration %d of %d: %w", i+1, len(goes), err))
			continue
		}
		s := &script{version: m.Version, name: fmt.Sprintf("%d_go", m.Version), path: m.Source, goes: m}
		if m.Source != "" {
			s.name = strings.TrimSuffix(path.Base(m.Source), ".go")
		}
		registered[m.Version] = s
		scripts = append(scripts, s)
	}

	var entries []fs.DirEntry
	if fsys != nil {
		var err error
		if entries, err = fs.ReadDir(fsys, "."); err != nil {
			problems = append(problems, fmt.Errorf("goose: list migration files: %w", err))
		}
	}
	for _, e := range entries {
		file := e.Name()
		ext := path.Ext(file)
		if e.IsDir() || ext != ".sql" && ext != ".go" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		version, err := pressly.NumericComponent(file)
		switch {
		case ext == ".go" && err != nil: // a helper beside the migrations
		case ext == ".go":
			s := registered[version]
			if s == nil {
				problems = append(problems, fmt.Errorf("goose: %s is a Go migration that Options.Go does not have", file))
				continue
			}
			s.path, s.name = file, strings.TrimSuffix(file, ext)
		case err != nil:
			problems = append(problems, fmt.Errorf(
				"goose: %s: a migration is named by a version above 0 and an underscore, as in 20240115120000_create_users.sql", file))
		default:
			scripts = append(scripts, &script{version: version, name: strings.TrimSuffix(file, ext), path: file})
		}
	}

	slices.SortStableFunc(scripts, func(a, b *script) int { return cmp.Compare(a.version, b.version) })
	list := make([]script, len(scripts))
	for i, s := range scripts {
		list[i] = *s
		if i > 0 && s.version == scripts[i-1].version {
			problems = append(problems, fmt.Errorf("goose: %s and %s have the same version %d",
				scripts[i-1].label(), s.label(), s.version))
		}
	}
	return list, errors.Join(problems...)
}

// checkGo lets goose judge a registered migration: only it can see all of it.
func checkGo(m *pressly.Migration) error {
	if m == nil {
		return errors.New("it is nil")
	}
	_, err := pressly.NewProvider(pressly.DialectSQLite3, new(sql.DB), nil,
		pressly.WithGoMigrations(m), pressly.WithDisableGlobalRegistry(true))
	return err
}

// oneFile is a file system that holds one migration, as it was read. It serves
// goose, which would otherwise list the folder again for every version, and it
// pins what is applied to what was looked at.
type oneFile struct {
	name string
	data []byte
}

var _ fs.GlobFS = oneFile{}

func (f oneFile) Glob(pattern string) ([]string, error) {
	ok, err := path.Match(pattern, f.name)
	if !ok {
		return nil, err
	}
	return []string{f.name}, err
}

func (f oneFile) Open(name string) (fs.File, error) {
	if name != f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return openFile{bytes.NewReader(f.data)}, nil
}

type openFile struct{ io.Reader }

func (openFile) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }
func (openFile) Close() error               { return nil }
