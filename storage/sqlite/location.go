package sqlite

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// location is where a database is and how its handles are opened.
type location struct {
	memory   bool
	readOnly bool       // the caller said mode=ro
	path     string     // of the file; for memory the name inside the memdb VFS
	query    url.Values // parameters of the caller's URI
}

// locate reads a path, a file: URI or :memory:.
func locate(path string) (location, error) {
	if path == "" {
		return location{}, fmt.Errorf("the path of the SQLite database is empty")
	}
	if path == ":memory:" {
		return inMemory(), nil
	}
	loc := location{path: path, query: url.Values{}}
	if rest, isURI := strings.CutPrefix(path, "file:"); isURI {
		rest, query, _ := strings.Cut(rest, "?")
		rest, _, _ = strings.Cut(rest, "#")
		if authority, ok := strings.CutPrefix(rest, "//"); ok {
			slash := strings.Index(authority, "/")
			if slash < 0 || slash > 0 && authority[:slash] != "localhost" {
				return location{}, fmt.Errorf("%q: a file: URI names a file on this machine, as in file:///var/lib/app.db", path)
			}
			rest = authority[slash:]
		}
		name, err := url.PathUnescape(rest)
		if err != nil {
			return location{}, fmt.Errorf("%q: %w", path, err)
		}
		if loc.query, err = url.ParseQuery(query); err != nil {
			return location{}, fmt.Errorf("%q: %w", path, err)
		}
		if name == ":memory:" || loc.query.Get("mode") == "memory" {
			return inMemory(), nil
		}
		if name == "" {
			return location{}, fmt.Errorf("%q names no file", path)
		}
		loc.path = name
	}
	loc.readOnly = loc.query.Get("mode") == "ro"
	abs, err := filepath.Abs(loc.path)
	if err != nil {
		return location{}, fmt.Errorf("%q: %w", path, err)
	}
	loc.path = abs
	return loc, nil
}

// inMemory names a database in SQLite's memdb VFS. The leading slash makes it
// visible to every connection of this process that knows the name, and the name
// is known to this Store alone.
func inMemory() location {
	return location{memory: true, path: "/sequencer-" + storage.NewID().String(), query: url.Values{"vfs": {"memdb"}}}
}

// exists reports whether there is a database file to read. One in memory always
// is: the Store holds a connection to it.
func (l location) exists() bool {
	if l.memory {
		return true
	}
	_, err := os.Stat(l.path)
	return err == nil
}

// dsn opens the file without creating it, unless own says otherwise.
func (l location) dsn(busy time.Duration, own map[string]string) string {
	query := url.Values{}
	for key, values := range l.query {
		query[key] = values
	}
	if !query.Has("mode") && !l.memory {
		query.Set("mode", "rw")
	}
	query.Set("_busy_timeout", fmt.Sprint(busy.Milliseconds()))
	query.Set("_error_rc", "1") // never the message of another operation
	for key, value := range own {
		query.Set(key, value)
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(l.path), RawQuery: query.Encode()}
	return u.String()
}

func (l location) writerDSN(o Options) string {
	synchronous := "NORMAL"
	if o.Durability == Full {
		synchronous = "FULL"
	}
	return l.dsn(o.BusyTimeout, map[string]string{
		"_txlock": "immediate", "_synchronous": synchronous,
		"_pragma": "cache_size(-16000)",
	})
}

func (l location) readerDSN(o Options) string {
	return l.dsn(o.BusyTimeout, map[string]string{"_query_only": "1"})
}

func (l location) usersDSN(o Options) string {
	synchronous := "NORMAL"
	if o.Durability == Full {
		synchronous = "FULL"
	}
	return l.dsn(o.BusyTimeout, map[string]string{
		"_txlock": "immediate", "_synchronous": synchronous, "_foreign_keys": "1",
	})
}

// setupDSN may create the file.
func (l location) setupDSN(o Options) string {
	own := map[string]string{"_txlock": "immediate", "_synchronous": "FULL"}
	if !l.memory && !l.readOnly {
		own["mode"] = "rwc"
	}
	return l.dsn(o.BusyTimeout, own)
}
