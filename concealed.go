package sequencer

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// ConcealedError stands for an error that the code of an [Encrypted] operation
// returned or panicked with. Its message may show the input, so the text tells its
// kind alone, to logs, events and whoever waits for the execution; the ledger has
// the message, sealed (see [Sequencer.Reveal]). Middleware and the operation's own
// hooks get the error itself. errors.Is and errors.As find what is
// inside. Unwrap does not, so that nothing that prints chains of errors prints it.
type ConcealedError struct {
	text string
	err  func() error // a function, so that no formatting verb walks into it
}

func (e *ConcealedError) Error() string { return e.text }

// Is asks the error inside.
func (e *ConcealedError) Is(target error) bool { return errors.Is(e.err(), target) }

// As asks the error inside, except for what commands print without being asked:
// errors that list those of other executions, and hints.
func (e *ConcealedError) As(target any) bool {
	switch target.(type) {
	case **ExecutionError, **RunError, *interface{ Hint() string }:
		return false
	}
	return errors.As(e.err(), target)
}

// Reveal is the error as the operation returned it.
func (e *ConcealedError) Reveal() error { return e.err() }

// conceal hides what user code returned where the attempt is secret. A skip or a
// release keeps its reason, which was written to be read (Q7.3).
func (a *Attempt) conceal(err error) error {
	if err == nil || !a.secret() {
		return err
	}
	if !IsFailure(err) {
		return &ConcealedError{gravest(err).Error(), func() error { return err }}
	}
	var parts []string
	for _, known := range []error{ErrTimeout, ErrCancelled, ErrShutdown, ErrLeaseLost, ErrNotRollbackable, ErrNoTx, ErrOpenTx, errGoexit} {
		if errors.Is(err, known) {
			parts = append(parts, known.Error())
		}
	}
	kind := errorType(err)
	if d, ok := errors.AsType[*DecryptError](err); ok { // its text is ours, and says what to do
		parts = append(parts, d.Error())
	}
	if p, ok := errors.AsType[*PanicError](err); ok {
		kind = fmt.Sprintf("panic: %T", p.Value)
		p.Stack = withoutArguments(p.Stack)
	}
	text := strings.Join(append(parts, kind), ": ") + " (the message is withheld: " + a.Name + " is encrypted)"
	return &ConcealedError{text, func() error { return err }}
}

// revealed undoes conceal, for the operation's own code.
func revealed(err error) error {
	if c, ok := err.(*ConcealedError); ok { //nolint:errorlint // conceal is the last to wrap
		return c.err()
	}
	return err
}

// arguments are those of a call in a stack trace: words in hexadecimal, which small
// values of the input are passed as.
var arguments = regexp.MustCompile(`(?m)^(\S.*)\((?:0x|\{|\.\.\.|_)[^()]*\)$`)

func withoutArguments(stack string) string {
	return arguments.ReplaceAllString(stack, "$1(...)")
}

// sealedContext is the Context of a Failure whose message is sealed.
type sealedContext struct {
	Code   *int   `json:"code,omitempty"`
	Sealed string `json:"sealed,omitempty"` // base64 of the stored form
}

// sealFailure describes a concealed error for the ledger: kind and stack in clear,
// the message sealed (Q7.4).
func (a *Attempt) sealFailure(ctx context.Context, c *ConcealedError, how string) *storage.Failure {
	s := a.seq
	f := failureOf(c.err(), how)
	message := s.redact(f.Message)
	f.Message = c.text
	if how != "panic" {
		f.Trace = typeChain(c.err())
	}
	var about sealedContext
	_ = json.Unmarshal([]byte(f.Context), &about) // "" for none, or what failureOf made
	// The attempt's context may be over; a key service gets as long as the lease.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Lease)
	defer cancel()
	sealed, err := s.seal(ctx, a.exec, fieldMessage, []byte(message))
	if err == nil {
		f.Group, err = s.hashed(ctx, "error group", errorGroup(a.Name, &storage.Failure{Type: f.Type, Message: message}))
	}
	if err != nil {
		s.cfg.Logger.WarnContext(ctx, "the message of an error was not kept", keyOperation, a.Name, keyExecution, a.ID, keyError, err)
		f.Group = errorGroup(a.Name, f)
		return f
	}
	about.Sealed = base64.StdEncoding.EncodeToString(sealed)
	text, _ := json.Marshal(about)
	f.Context = string(text)
	return f
}

// typeChain lists the types of the errors inside err, outermost first.
func typeChain(err error) string {
	var b strings.Builder
	var walk func(err error, depth int)
	walk = func(err error, depth int) {
		if err == nil || b.Len() > maxTrace {
			return
		}
		fmt.Fprintf(&b, "%s%T\n", strings.Repeat("  ", depth), err)
		switch x := err.(type) { //nolint:errorlint // this prints the unwrapping
		case interface{ Unwrap() error }:
			walk(x.Unwrap(), depth+1)
		case interface{ Unwrap() []error }:
			for _, child := range x.Unwrap() {
				walk(child, depth+1)
			}
		}
	}
	walk(err, 0)
	return shorten(strings.TrimSuffix(b.String(), "\n"), maxTrace)
}

// Reveal is the message of a failed attempt, opened if it is sealed: the one place
// where what an Encrypted operation said of its errors is shown. A *DecryptError
// says that the key it was sealed with is not there.
func (s *Sequencer) Reveal(ctx context.Context, f storage.Attempt) (string, error) {
	var about sealedContext
	if err := json.Unmarshal([]byte(f.Context), &about); err != nil || about.Sealed == "" {
		return f.Message, nil //nolint:nilerr // a context of somebody else's: the message is not sealed
	}
	stored, err := base64.StdEncoding.DecodeString(about.Sealed)
	if err != nil {
		return "", fmt.Errorf("message of execution %s: %w", f.ExecutionID, err)
	}
	row, err := s.row(ctx, f.ExecutionID)
	if err != nil {
		return "", err
	}
	message, err := s.open(ctx, &row, fieldMessage, stored)
	return string(message), err
}
