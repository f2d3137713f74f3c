package redis

import (
	"context"
	"crypto/sha1" //nolint:gosec // it is how the server names scripts
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// script is a text and the name that the server gives it.
type script struct {
	text, sha string
	once      bool // the client must not send it again when an answer is lost
}

// The first line makes a server refuse a key of another slot, which it would let
// pass otherwise on a single node (redis.io, "Scripts in cluster mode").
func newScript(once bool, flags string, files ...string) script {
	var b strings.Builder
	b.WriteString("#!lua" + flags + "\n")
	for _, name := range append([]string{"common"}, files...) {
		text, err := luaFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			panic(err) // it is part of the binary
		}
		b.Write(text)
	}
	sum := sha1.Sum([]byte(b.String())) //nolint:gosec // see above
	return script{b.String(), hex.EncodeToString(sum[:]), once}
}

var (
	enqueueScript    = newScript(false, "", "enqueue")
	enqueueAndClaim  = newScript(true, "", "record", "claimed", "enqueue")
	claimScript      = newScript(true, "", "record", "claimed", "claim")
	finishScript     = newScript(true, "", "finish")
	finishAndClaim   = newScript(true, "", "record", "claimed", "finish")
	commitScript     = newScript(true, "", "record", "claimed", "commit")
	checkpointScript = newScript(false, "", "checkpoint")
	renewScript      = newScript(false, "", "renew")
	openScript       = newScript(false, "", "open")
	timeScript       = newScript(false, " flags=no-writes", "time")
	rowsScript       = newScript(false, " flags=no-writes", "record", "rows")
)

// once is a command that a client never sends twice.
type once struct{ *redis.Cmd }

// NoRetry implements [redis.Cmder].
func (once) NoRetry() bool { return true }

// eval runs a script and returns what it answered. A server that does not know the
// script gets its text; it has done nothing then.
func (s *Store) eval(ctx context.Context, sc *script, args ...any) (any, error) {
	answer, err := s.send(ctx, sc.once, "evalsha", sc.sha, args)
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		answer, err = s.send(ctx, sc.once, "eval", sc.text, args)
	}
	return answer, err
}

func (s *Store) send(ctx context.Context, single bool, verb, text string, args []any) (any, error) {
	all := make([]any, 0, len(args)+4)
	all = append(all, verb, text, 1, s.prefix)
	cmd := redis.NewCmd(ctx, append(all, args...)...)
	cmd.SetFirstKeyPos(3)
	if single {
		_ = s.client.Process(ctx, once{cmd})
	} else {
		_ = s.client.Process(ctx, cmd)
	}
	return cmd.Result()
}

// How long to stand back while another call has the ledger to itself, at first and
// at most.
const (
	standBack     = time.Millisecond
	standBackMost = 20 * time.Millisecond
)

// verb runs a script whose answer begins with what became of it, and gives the rest
// if that is "ok". While another call has the ledger to itself it waits.
func (s *Store) verb(ctx context.Context, sc *script, args ...any) (string, []any, error) {
	for pause := standBack; ; pause = min(2*pause, standBackMost) {
		answer, err := s.eval(ctx, sc, args...)
		if err != nil {
			return "", nil, err
		}
		list, ok := answer.([]any)
		if !ok || len(list) == 0 {
			return "", nil, fmt.Errorf("%w: a script answered %T", errMangled, answer)
		}
		code, _ := list[0].(string)
		if code != "gated" {
			return code, list[1:], nil
		}
		if err := sleep(ctx, pause); err != nil {
			return "", nil, errors.Join(errGated, err)
		}
	}
}

// time is the instant of the server.
func (s *Store) time(ctx context.Context) (time.Time, error) {
	answer, err := s.eval(ctx, &timeScript)
	micro, _ := answer.(int64)
	return instant(micro), err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// text is an answer that is a string.
func text(answer any) string {
	s, _ := answer.(string)
	return s
}
