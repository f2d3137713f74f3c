package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/fileop"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/storage"
)

// syntax finds SQL that the database cannot even read, before a run begins: one
// slip of the pen in the last file of a deploy should not cost a run and a rollback.
// What tables there are, and so most that can be wrong, shows when a file runs.
type syntax struct {
	check      func(ctx context.Context, text string) error // nil = this kind of database cannot tell
	operations *fileop.Set
	migrations *goose.Source // nil = none
	dir        string        // of the migrations
}

// syntaxError is a file whose SQL cannot be read.
type syntaxError struct {
	path string
	err  error
	hint string // besides the obvious
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s: %v", e.path, e.err) }
func (e *syntaxError) Unwrap() error { return e.err }
func (e *syntaxError) Hint() string  { return "nothing was run: correct the file" + e.hint }

// examine looks at the files of these tasks and returns all that is wrong.
func (s syntax) examine(ctx context.Context, tasks []sequencer.Task) error {
	var faults []error
	for _, t := range tasks {
		if t.Kind == storage.Migration {
			faults = append(faults, s.migration(ctx, t))
			continue
		}
		for path, text := range s.operations.Statements(t.Name) {
			faults = append(faults, s.one(ctx, path, text))
		}
	}
	return errors.Join(faults...)
}

func (s syntax) migration(ctx context.Context, t sequencer.Task) error {
	statements, err := s.migrations.Statements(ctx, t.Version)
	if err != nil {
		return &syntaxError{s.dir, err, "; what it does stands below the line \"-- +goose Up\", each statement up to a semicolon"}
	}
	for _, text := range statements {
		if err := s.one(ctx, filepath.Join(s.dir, t.Name+".sql"), text); err != nil {
			return err
		}
	}
	return nil
}

func (s syntax) one(ctx context.Context, path, text string) error {
	if s.check == nil {
		return nil
	}
	if err := s.check(ctx, text); err != nil {
		return &syntaxError{path: path, err: err}
	}
	return nil
}
