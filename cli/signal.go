package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// errStopped is the cause of a context that a signal ended.
var errStopped = errors.New("stopped by a signal")

// untilSignal runs fn with a context that the first SIGINT or SIGTERM ends. A
// second one calls abort and does not wait for fn: the caller is expected to end
// the process.
func untilSignal(ctx context.Context, errOut io.Writer, abort func(), fn func(ctx context.Context) int) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	code := make(chan int, 1)
	go func() { code <- fn(ctx) }()
	for {
		select {
		case c := <-code:
			return c
		case <-signals:
			if errors.Is(context.Cause(ctx), errStopped) {
				abort()
				fmt.Fprintln(errOut, "\naborted; what was running may be half done: see status")
				return exitInterrupted
			}
			fmt.Fprintln(errOut, "stopping: press Ctrl-C again to abort")
			cancel(errStopped)
		}
	}
}
