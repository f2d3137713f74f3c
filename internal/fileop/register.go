package fileop

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/gosequencer/sequencer"
)

// Host is what the operations of files may use.
type Host struct {
	DB          func() (*sql.DB, error) // for SQL files outside a transaction
	DatabaseURL string                  // told to executables
	Environment string                  // told to executables
	Migrations  []string                // names, for dependencies without a kind
}

// mask takes the database's URL and its password out of a text; nil = nothing to
// take out.
func (h Host) mask() *strings.Replacer {
	u, err := url.Parse(h.DatabaseURL)
	if err != nil || u.Host == "" {
		return nil
	}
	pairs := []string{h.DatabaseURL, "[database URL]"}
	if password, ok := u.User.Password(); ok && password != "" {
		pairs = append(pairs, u.User.String()+"@", "***@", password, "***")
	}
	return strings.NewReplacer(pairs...)
}

// Register adds every operation of the set to reg.
func (s *Set) Register(reg *sequencer.Registry, h Host) error {
	var faults []error
	seen := len(problems(reg))
	for _, f := range s.Files {
		deps, err := s.dependencies(f, h.Migrations)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		options := f.options()
		if len(deps) > 0 {
			options = append(options, sequencer.DependsOn(deps...))
		}
		if f.undo != nil {
			options = append(options, sequencer.Undo(s.runner(f, f.undo, h)))
		}
		if f.Ordered() || f.SQL() {
			sequencer.RegisterFunc(reg, f.Name, s.runner(f, f, h), options...)
		} else {
			sequencer.RegisterFuncOf(reg, f.Name, func(ctx context.Context, in input) error {
				p := s.program(f, f, h)
				p.input = in.text
				return p.run(ctx)
			}, options...)
		}
		if err := f.schedule(reg); err != nil {
			faults = append(faults, err)
		}
		for _, problem := range problems(reg)[seen:] {
			faults = append(faults, fmt.Errorf("%s: %s", f.Path, place.ReplaceAllString(problem.Error(), "")))
			seen++
		}
	}
	return errors.Join(faults...)
}

// place is where in this package something was registered, which tells nobody
// anything: the file does.
var place = regexp.MustCompile(`^(?:register|schedule) \S+ at \S+: | at \S*(?:register|schedule)\.go:\d+`)

// problems are those of a registry, one by one.
func problems(reg *sequencer.Registry) []error {
	if all, ok := reg.Err().(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	return nil
}

// options says what the header says, in the words of the registry.
func (f *File) options() []sequencer.RegisterOption {
	h := f.Header
	var all []sequencer.RegisterOption
	given := func(ok bool, o sequencer.RegisterOption) {
		if ok {
			all = append(all, o)
		}
	}
	if h.Tries != nil {
		all = append(all, sequencer.Tries(*h.Tries))
	}
	if h.Bound {
		all = append(all, sequencer.Environments(h.Environments...))
	}
	given(len(h.Backoff) > 0, sequencer.Backoff(h.Backoff...))
	given(h.Timeout > 0, sequencer.Timeout(h.Timeout))
	given(h.FailOnTimeout, sequencer.FailOnTimeout())
	given(h.MaxErrors > 0, sequencer.MaxExceptions(h.MaxErrors))
	given(len(h.Tags) > 0, sequencer.Tagged(h.Tags...))
	given(len(h.Former) > 0, sequencer.FormerNames(h.Former...))
	given(h.Queue != "", sequencer.OnQueue(h.Queue))
	given(h.ApprovedBy != "", sequencer.ApprovedBy(h.ApprovedBy))
	given(h.Irreversible, sequencer.Irreversible())
	given(h.Rehearsable || f.inside(), sequencer.Mark[sequencer.Rehearsable]())
	given(h.Idempotent, sequencer.Mark[sequencer.Idempotent]())
	given(h.AllowedToFail, sequencer.Mark[sequencer.AllowedToFail]())
	given(h.Async, sequencer.Mark[sequencer.Async]())
	given(h.Transaction == Require, sequencer.Mark[sequencer.TxRequire]())
	given(f.alone(), sequencer.Mark[sequencer.TxNever]())
	return all
}

// tries is how many attempts there are.
func (f *File) tries() int {
	if f.Header.Tries == nil {
		return 1
	}
	return *f.Header.Tries
}

// alone reports whether what the file does is outside the ledger's transaction.
func (f *File) alone() bool { return f.Header.Transaction == Never || !f.SQL() }

// inside reports whether all that the file and its rollback do is SQL in the ledger's
// transaction, which a rehearsal on a copy may do too.
func (f *File) inside() bool { return !f.alone() && (f.undo == nil || f.undo.SQL()) }

func (s *Set) program(f, what *File, h Host) program {
	return program{path: what.Path, host: h, backoff: f.Header.Backoff, tries: f.tries(), running: &s.running}
}

// input is what an executable is given, whatever JSON it is.
type input struct{ text json.RawMessage }

// MarshalJSON implements [json.Marshaler].
func (i input) MarshalJSON() ([]byte, error) { return i.text.MarshalJSON() }

// UnmarshalJSON implements [json.Unmarshaler].
func (i *input) UnmarshalJSON(text []byte) error { return i.text.UnmarshalJSON(text) }

// runner is the function that runs what: the operation's own file or its rollback.
func (s *Set) runner(f, what *File, h Host) func(context.Context) error {
	switch {
	case !what.SQL():
		return s.program(f, what, h).run
	case f.Header.Transaction == Never:
		return func(ctx context.Context) error { return runAlone(ctx, h.DB, what) }
	case f.alone(): // an SQL rollback of an executable
		return func(ctx context.Context) error {
			return sequencer.Transact(ctx, func(ctx context.Context) error { return runInTx(ctx, what) })
		}
	default:
		return func(ctx context.Context) error { return runInTx(ctx, what) }
	}
}
