package migration

import "errors"

// ErrApplied: the version is applied already; nothing was done.
var ErrApplied = errors.New("migration is already applied")

// ErrUnknown: the source has no such version.
var ErrUnknown = errors.New("unknown migration")
