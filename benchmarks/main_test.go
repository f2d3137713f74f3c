package main

import (
	"os"
	"testing"
)

// TestMain lets the children that the tests start be this binary.
func TestMain(m *testing.M) {
	if text := os.Getenv(taskVar); text != "" {
		os.Exit(serve(text))
	}
	os.Exit(m.Run())
}
