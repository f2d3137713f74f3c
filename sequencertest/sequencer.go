package sequencertest

import (
	"log/slog"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage/memory"
)

// New is a sequencer on an empty ledger in memory, which ends with the test. A
// configuration that New of package sequencer refuses ends the test at once. Without a
// Logger in cfg, what it logs is part of the test's output.
//
// A memory ledger has no transactions: what is marked TxRequire needs a store of your own,
// such as SQLite's on a file in t.TempDir.
func New(tb testing.TB, reg *sequencer.Registry, cfg sequencer.Config) *sequencer.Sequencer {
	tb.Helper()
	store := memory.New()
	tb.Cleanup(func() { _ = store.Close() })
	cfg.Logger = logger(tb, cfg.Logger)
	seq, err := sequencer.New(store, reg, cfg)
	if err != nil {
		tb.Fatalf("sequencertest: %v", err)
	}
	return seq
}

// logger is l, or what writes to the test's output.
func logger(tb testing.TB, l *slog.Logger) *slog.Logger {
	tb.Helper()
	if l != nil {
		return l
	}
	return slog.New(slog.NewTextHandler(tb.Output(), nil))
}
