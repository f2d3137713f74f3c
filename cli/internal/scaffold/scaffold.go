// Package scaffold writes the files of new operations: Go source that compiles
// with any combination of abilities, or SQL for the stock command, and the list
// that registers a package's operations.
package scaffold

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Options says what to write.
type Options struct {
	Name      string // as a person wrote it: SyncWithAPI, "sync with api", sync_with_api
	Abilities []string
	Tags      []string
	Queue     string
	Timeout   time.Duration
	Dir       string
	Package   string // "" = that of the directory
	Test      bool
	SQL       bool
	Force     bool // overwrite
	Now       time.Time
}

var (
	identifier = regexp.MustCompile(`^[A-Za-z0-9._:/-]+$`)
	goPackage  = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	stamped    = regexp.MustCompile(`^(\d{14})_(.+)$`)
)

// Check reports what cannot be meant, before anything is written.
func (o *Options) Check() error {
	words, err := split(o.Name)
	if err != nil {
		return err
	}
	if len(snake(words)) > 100 {
		return fmt.Errorf("the name %.40q… is too long", o.Name)
	}
	for _, tag := range append(slices.Clone(o.Tags), o.Queue) {
		if tag != "" && !identifier.MatchString(tag) {
			return fmt.Errorf("%q: tags and queues use letters, digits and . _ : / -", tag)
		}
	}
	if o.Package != "" && (!goPackage.MatchString(o.Package) || o.Package == "main") {
		return fmt.Errorf("%q is no name for a package of operations", o.Package)
	}
	if o.SQL {
		return o.checkSQL()
	}
	return nil
}

// Write writes the files and returns their paths.
func (o *Options) Write() ([]string, error) {
	words, err := split(o.Name)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	name, err := o.place(snake(words))
	if err != nil {
		return nil, err
	}
	var w writer
	if o.SQL {
		o.writeSQL(&w, name)
	} else {
		o.writeGo(&w, name, camel(words))
	}
	return w.files, w.err
}

// place finds the operation's full name: that of an existing file which may be
// overwritten, else one whose timestamp nothing in the directory has.
func (o *Options) place(rest string) (string, error) {
	entries, err := os.ReadDir(o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	taken := map[string]bool{}
	for _, e := range entries {
		stem := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))
		found := stamped.FindStringSubmatch(stem)
		if found == nil {
			continue
		}
		taken[found[1]] = true
		if found[2] == rest && filepath.Ext(e.Name()) == o.ending() {
			if !o.Force {
				return "", fmt.Errorf("%s is there already: choose another name, or overwrite it with --force", filepath.Join(o.Dir, e.Name()))
			}
			return stem, nil
		}
	}
	at := o.Now.UTC()
	for taken[at.Format("20060102150405")] {
		at = at.Add(time.Second)
	}
	return at.Format("20060102150405") + "_" + rest, nil
}

func (o *Options) ending() string {
	if o.SQL {
		return ".sql"
	}
	return ".go"
}

func (o *Options) has(ability string) bool { return slices.Contains(o.Abilities, ability) }

// writer writes files until the first error.
type writer struct {
	files []string
	err   error
}

func (w *writer) write(path string, content []byte) {
	if w.err != nil {
		return
	}
	if w.err = os.WriteFile(path, content, 0o644); w.err == nil {
		w.files = append(w.files, path)
	}
}
