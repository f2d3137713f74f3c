package sqlite

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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
		return location{}, errors.New("the path of the SQLite database is empty")
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
func (l location) dsn(o Options, own url.Values) string {
	query := url.Values{}
	for key, values := range l.query {
		query[key] = values
	}
	if !query.Has("mode") && !l.memory {
		query.Set("mode", "rw")
	}
	query.Set("_busy_timeout", strconv.FormatInt(o.BusyTimeout.Milliseconds(), 10))
	query.Set("_error_rc", "1") // never the message of another operation
	for key, values := range own {
		query[key] = values
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(l.path), RawQuery: query.Encode()}
	return u.String()
}

// writerDSN has SQLite's usual cache, 2 MiB: ids and instants ascend, so the ends of
// the indexes are what is hot, and behind it stands the system's cache. It lets the
// WAL grow to 16 MiB before it is copied into the database, which is worth an
// eighth of the speed of a busy queue. Foreign keys are for the tables of users,
// who have the same connections.
func (l location) writerDSN(o Options) string {
	return l.dsn(o, url.Values{
		"_txlock": {"immediate"}, "_synchronous": {o.Durability.pragma()}, "_foreign_keys": {"1"},
		"_pragma": append([]string{"cache_size(-2048)", "wal_autocheckpoint(4096)"}, l.query["_pragma"]...),
	})
}

func (l location) readerDSN(o Options) string {
	return l.dsn(o, url.Values{"_query_only": {"1"}, "_pragma": append([]string{"cache_size(-512)"}, l.query["_pragma"]...)})
}

// setupDSN may create the file.
func (l location) setupDSN(o Options) string {
	own := url.Values{"_txlock": {"immediate"}, "_synchronous": {"FULL"}}
	if !l.memory && !l.readOnly {
		own.Set("mode", "rwc")
	}
	return l.dsn(o, own)
}

func (d Durability) pragma() string {
	if d == Full {
		return "FULL"
	}
	return "NORMAL"
}
