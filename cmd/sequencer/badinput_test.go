//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/internal/testdb"
)

// badInput is something that the command must refuse, naming it and the remedy,
// and leaving the database as it was.
type badInput struct {
	name  string
	files map[string]string                   // what is wrong, laid beside what is right
	spoil func(t *testing.T, p *place) func() // what is wrong and no file; the answer mends it
	args  []string                            // default: process
	url   string                              // instead of the place's own
	code  int                                 // default 1
	says  []string                            // what standard error must match
	on    string                              // the one backend that can have it, "" = all
	used  bool                                // only a database that has a ledger can have it
}

var badInputs = []badInput{
	{
		name: "unknown operation",
		args: []string{"execute", "20250101000000_nobody"},
		says: []string{`operation "20250101000000_nobody" is not registered`, `hint: sequencer status lists what is registered`},
	},
	{
		name:  "malformed timestamp",
		files: map[string]string{"operations/20251301000000_x.sql": "select 1;"},
		says:  []string{`operations/20251301000000_x.sql: malformed timestamp 20251301000000: write YYYYMMDDhhmmss, a date that exists`},
	},
	{
		name: "malformed timestamp in an option",
		args: []string{"process", "--from", "yesterday"},
		code: 2,
		says: []string{`from "yesterday": not a possible timestamp: .*2024`, `hint: sequencer process --help`},
	},
	{
		name:  "two operations of one name",
		files: map[string]string{"operations/20250101000000_x.sql": "select 1;", "operations/20250101000000_x.SQL": "select 1;"},
		says:  []string{`two operations of one name, 20250101000000_x: operations/20250101000000_x.SQL and operations/20250101000000_x.sql: rename one`},
	},
	{
		name: "dependency cycle",
		files: map[string]string{
			"operations/20250101000000_a.sql": "-- sequencer: depends b\nselect 1;",
			"operations/20250102000000_b.sql": "-- sequencer: depends c\nselect 1;",
			"operations/20250103000000_c.sql": "-- sequencer: depends a\nselect 1;",
		},
		says: []string{`circular dependency: 20250101000000_a → 20250102000000_b → 20250103000000_c → 20250101000000_a$`, `hint: take one of these dependencies away`},
	},
	{
		name:  "unknown dependency",
		files: map[string]string{"operations/20250101000000_x.sql": "-- sequencer: depends usres\nselect 1;"},
		says:  []string{`operations/20250101000000_x.sql: depends usres: unknown dependency: .*correct it, or add the file`},
	},
	{
		name: "sync and async",
		args: []string{"process", "--sync", "--async"},
		code: 2,
		says: []string{`--sync and --async exclude each other: give one of them`},
	},
	{
		name:  "unreadable directory of operations",
		spoil: func(t *testing.T, p *place) func() { t.Helper(); return p.mode(t, 0, "operations") },
		says:  []string{`reading operations: open operations: permission denied`, `hint: let the user who runs this read it`},
	},
	{
		name: "unreadable operation",
		spoil: func(t *testing.T, p *place) func() {
			t.Helper()
			return p.mode(t, 0, "operations/20240102000000_seed.sql")
		},
		says: []string{`open operations/20240102000000_seed.sql: permission denied`, `hint: let the user who runs this read it`},
	},
	{
		name:  "unreadable directory of migrations",
		spoil: func(t *testing.T, p *place) func() { t.Helper(); return p.mode(t, 0, "migrations") },
		says:  []string{`open migrations: permission denied`, `hint: let the user who runs this read it`},
	},
	{
		name: "unreadable migration",
		spoil: func(t *testing.T, p *place) func() {
			t.Helper()
			return p.mode(t, 0, "migrations/20240101000000_users.sql")
		},
		says: []string{`20240101000000_users.sql: permission denied`, `hint: let the user who runs this read it`},
	},
	{
		name:  "corrupt SQL in an operation",
		files: map[string]string{"operations/20250101000000_x.sql": "insert into users values ('b');\nselekt 1;\n"},
		says:  []string{`operations/20250101000000_x.sql: .*"selekt"`, `hint: nothing was run: correct the file`},
	},
	{
		name:  "corrupt SQL in a migration",
		files: map[string]string{"migrations/20250101000000_x.sql": "-- +goose Up\ncreate table x (a int);\ncreate tabel y (a int);\n"},
		says:  []string{`migrations/20250101000000_x.sql: .*"tabel"`, `hint: nothing was run: correct the file$`},
	},
	{
		name:  "a migration that goose cannot read",
		files: map[string]string{"migrations/20250101000000_x.sql": "create table x (a int);\n"},
		says:  []string{`migrations: migration 20250101000000_x.sql: `, `hint: nothing was run: correct the file; .*"-- \+goose Up"`},
	},
	{
		name:  "an operation that is no text",
		files: map[string]string{"operations/20250101000000_x.sql": "select 1;\x00\x01\x02 select 2;"},
		says:  []string{`operations/20250101000000_x.sql: it is not UTF-8 text, or is damaged: save it as UTF-8`},
	},
	{
		name: "unreachable server",
		url:  "postgres://me:secret@127.0.0.1:1/ledger",
		says: []string{`connect to postgres at 127.0.0.1:1, database "ledger"`, `hint: check that the server runs there`},
	},
	{
		name: "unreachable MySQL server",
		url:  "mysql://me:secret@127.0.0.1:1/ledger",
		says: []string{`connect to mysql at 127.0.0.1:1, database "ledger"`, `hint: check that the server runs there`},
	},
	{
		name:  "read-only file",
		on:    "sqlite",
		used:  true,
		files: map[string]string{"operations/20250101000000_x.sql": "select 1;"},
		spoil: func(t *testing.T, p *place) func() {
			t.Helper()
			writable := p.mode(t, 0o444, "data/app.db")
			open := p.mode(t, 0o555, "data")
			return func() { open(); writable() }
		},
		says: []string{`data/app.db is read-only`, `hint: give this user write permission`},
	},
	{
		name:  "read-only server", // a standby answers in the same way
		on:    "postgres",
		files: map[string]string{"operations/20250101000000_x.sql": "select 1;"},
		spoil: func(t *testing.T, p *place) func() {
			t.Helper()
			writable := p.url
			p.url += "&default_transaction_read_only=on"
			return func() { p.url = writable }
		},
		says: []string{`postgres: .*read-only transaction`, `hint: connect to the primary server`},
	},
	{
		name:  "full disk",
		on:    "sqlite",
		files: map[string]string{"operations/20250101000000_x.sql": "select 1;"},
		spoil: fillDisk,
		says:  []string{`data/app.db .*full`, `hint: free some space and repeat`},
	},
	{
		name:  "ledger written by a newer version",
		used:  true,
		files: map[string]string{"operations/20250101000000_x.sql": "select 1;"},
		spoil: func(t *testing.T, p *place) func() {
			t.Helper()
			p.exec(t, "update sequencer_meta set version = version + 90, oldest_compatible = oldest_compatible + 90")
			return func() {
				p.exec(t, "update sequencer_meta set version = version - 90, oldest_compatible = oldest_compatible - 90")
			}
		},
		says: []string{`schema \d+: upgrade it`, `hint: nothing was changed; install the release that wrote this ledger`},
	},
}

func TestBadInputIsNamedAndLeavesTheDatabaseUntouched(t *testing.T) {
	t.Parallel()
	command := install(t)
	for _, backend := range []string{"sqlite", "postgres"} {
		for _, bad := range badInputs {
			if bad.on != "" && bad.on != backend {
				continue
			}
			t.Run(backend+"/"+bad.name, func(t *testing.T) {
				t.Parallel()
				p := settle(t, command, backend)
				if !bad.used {
					bad.tryIn(t, p)
				}
				p.mustProcess(t) // the control: nothing else was wrong
				bad.tryIn(t, p)
			})
		}
	}
}

func (bad badInput) tryIn(t *testing.T, p *place) {
	t.Helper()
	for name, text := range bad.files {
		p.write(t, name, text)
	}
	mend := func() {}
	if bad.spoil != nil {
		mend = bad.spoil(t, p)
	}
	before := p.contents(t)
	url := bad.url
	if url == "" {
		url = p.url
	}
	args := bad.args
	if args == nil {
		args = []string{"process"}
	}
	code, talk := p.run(t, url, args...)
	if want := max(bad.code, 1); code != want {
		t.Errorf("exit code %d, want %d", code, want)
	}
	for _, want := range bad.says {
		if !regexp.MustCompile("(?m)" + want).MatchString(talk) {
			t.Errorf("it does not say %q", want)
		}
	}
	if strings.Contains(talk, "secret") {
		t.Error("it tells the password")
	}
	if diff := cmp.Diff(before, p.contents(t)); diff != "" {
		t.Errorf("the database was touched (-before +after):\n%s", diff)
	}
	if t.Failed() {
		t.Logf("standard error:\n%s", talk)
	}
	mend()
	for name := range bad.files {
		if err := os.Remove(p.path(name)); err != nil {
			t.Fatal(err)
		}
	}
}

// place is a directory with operations and migrations, and a database.
type place struct {
	dir, command, url string
}

// nobody is who runs the command when root runs the tests: root may read and write
// everything.
const nobody = 65534

// install copies the test binary, which is the command when it is called so, to
// where nobody can run it.
func install(t *testing.T) string {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(own)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(publicDir(t), "sequencer")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// publicDir is a directory that every user can reach.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func settle(t *testing.T, command, backend string) *place {
	t.Helper()
	p := &place{dir: publicDir(t), command: command, url: "sqlite:data/app.db"}
	if backend == "postgres" {
		p.url = testdb.Postgres(t)
	}
	p.write(t, "migrations/20240101000000_users.sql", "-- +goose Up\ncreate table users (name text);\n")
	p.write(t, "operations/20240102000000_seed.sql", "insert into users values ('a');\n")
	p.write(t, "data/other", "")
	p.give(t, "data")
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// give makes a file or directory the property of whoever runs the command.
func (p *place) give(t *testing.T, name string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	if err := os.Chown(p.path(name), nobody, nobody); err != nil {
		t.Fatal(err)
	}
}

func (p *place) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mode changes who may do what with a file; the answer changes it back.
func (p *place) mode(t *testing.T, mode fs.FileMode, name string) func() {
	t.Helper()
	info, err := os.Stat(p.path(name))
	if err != nil {
		t.Fatal(err)
	}
	set := func(mode fs.FileMode) {
		if err := os.Chmod(p.path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	set(mode)
	back := func() { set(info.Mode()) }
	t.Cleanup(back) // or the directory could not be removed
	return back
}

// run runs the command as an ordinary user and returns its exit code and what it
// said on standard error.
func (p *place) run(t *testing.T, url string, args ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.command, args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "SEQUENCER_DATABASE_URL="+url, "SEQUENCER_ENV=test", "SEQUENCER_ACTOR=tester@lab", "GORACE=atexit_sleep_ms=0")
	var talk bytes.Buffer
	cmd.Stderr = &talk
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), talk.String()
}

func (p *place) mustProcess(t *testing.T) {
	t.Helper()
	if code, talk := p.run(t, p.url, "process"); code != 0 {
		t.Fatalf("with nothing wrong, exit code %d:\n%s", code, talk)
	}
}

// open opens the database; nil means that there is none yet.
func (p *place) open(t *testing.T) *sql.DB {
	t.Helper()
	driver, dsn := "pgx", p.url
	if path, ok := strings.CutPrefix(p.url, "sqlite:"); ok {
		driver, dsn = "sqlite", p.path(path)
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func (p *place) exec(t *testing.T, statement string) {
	t.Helper()
	db := p.open(t)
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// contents is everything in the database that can be seen to change: of SQLite the
// bytes of each file there, of PostgreSQL the relations, and each row with where it
// is and who wrote it.
func (p *place) contents(t *testing.T) map[string]string {
	t.Helper()
	if strings.HasPrefix(p.url, "sqlite:") {
		return p.files(t)
	}
	db := p.open(t)
	defer db.Close()
	all := map[string]string{}
	for _, line := range list(t, db, `select relname || ' ' || relkind::text from pg_class where relnamespace = current_schema()::regnamespace`) {
		name, kind, _ := strings.Cut(line, " ")
		all[line] = ""
		if kind == "r" {
			all[line] = strings.Join(list(t, db, `select t.ctid || ' ' || t.xmin || ' ' || t::text from `+name+` t order by t.ctid`), "\n")
		}
	}
	return all
}

// files leaves out what holds nothing: an empty database or WAL, and the index of
// the WAL, which SQLite makes anew. Both may stay behind where a disk is full.
func (p *place) files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(p.path("data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[path] = "directory"
			return err
		}
		text, err := os.ReadFile(path)
		if len(text) > 0 && !strings.HasSuffix(path, "-shm") {
			all[path] = fmt.Sprintf("%d bytes, %x", len(text), sha256.Sum256(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func list(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		all = append(all, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// fillDisk puts the database on a small file system of its own and fills that. Only
// this test's thread and its children see it, and it goes when the thread does.
func fillDisk(t *testing.T, p *place) func() {
	t.Helper()
	if _, err := os.Stat(p.path("data/app.db")); err == nil {
		return fill(t, p.path("data/filler")) // the second time
	}
	runtime.LockOSThread() // for ever: the thread ends with the goroutine
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		t.Skipf("only who may mount can have a small disk (%v); testdata/sqlite/files.txtar limits the size of files instead", err)
	}
	data := p.path("data")
	// In a chroot "/" is no mount point: EINVAL, and the mount below is then seen
	// wherever that of the chroot is, until the test ends.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil && !errors.Is(err, syscall.EINVAL) {
		t.Fatal(err)
	}
	if err := syscall.Mount("small", data, "tmpfs", 0, fmt.Sprintf("size=1m,uid=%d,gid=%d,mode=755", nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(data, syscall.MNT_DETACH) })
	return fill(t, filepath.Join(data, "filler"))
}

// fill writes a file until nothing more fits. Removing it mends that.
func fill(t *testing.T, path string) func() {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
