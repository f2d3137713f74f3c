package main

import (
	"testing"

	"github.com/gosequencer/sequencer/storage/sqlite"
)

func TestZZProcess(t *testing.T) {
	for range 2 {
		d, err := process(t.Context(), t.TempDir(), true)
		t.Log(d, err)
	}
}
func TestZZStat(t *testing.T) {
	d, err := process(t.Context(), t.TempDir(), true)
	t.Log(d, err)
	sqlite.ZZDump()
}
func TestZZBase(t *testing.T) {
	for range 2 {
		d, err := baseline(t.Context(), t.TempDir(), true)
		t.Log(d, err)
	}
}
