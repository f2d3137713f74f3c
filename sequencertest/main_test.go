package sequencertest_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
)

// t stands in examples for what a test function gets. What it reports is printed, so that
// an example can show it.
var t = &exampleT{}

type exampleT struct {
	testing.TB
	cleanups []func()
}

func (*exampleT) Helper()                           {}
func (*exampleT) Context() context.Context          { return context.Background() }
func (*exampleT) Output() io.Writer                 { return io.Discard }
func (*exampleT) Errorf(format string, args ...any) { fmt.Printf("test failed: "+format+"\n", args...) }
func (t *exampleT) Cleanup(f func())                { t.cleanups = append(t.cleanups, f) }

func (*exampleT) Fatal(args ...any) { panic(fmt.Sprintln(args...)) }

func (*exampleT) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func TestMain(m *testing.M) {
	code := m.Run()
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
	os.Exit(code)
}
