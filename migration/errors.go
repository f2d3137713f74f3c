package migration

import "errors"

// ErrApplied says that the version is applied already; nothing was done.
var ErrApplied = errors.New("migration is already applied")

// ErrUnknown says that the source has no such version.
var ErrUnknown = errors.New("unknown migration")
