package sequencer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// An input is stored as a format byte, the length of a key id in one byte, the
// key id, and the payload. The plain format has no key. Only a change of keys
// rewrites stored bytes, so every format ever written has to stay readable.
// Checkpoints and results are stored as plain JSON, or in the sealed format.
const (
	inputPlain  = 1 // the payload is JSON
	inputSealed = 2 // the payload is JSON that a Sealer sealed with the key

	inputHeader = 2
)

// InputTooLargeError says that an input is over Config.MaxInput. Keep what is
// large elsewhere, and hand over where to find it.
type InputTooLargeError struct {
	Name  string // of the operation
	Size  int    // bytes, as stored
	Limit int
}

func (e *InputTooLargeError) Error() string {
	return fmt.Sprintf("%s: the input has %d bytes and %d is the limit: store it elsewhere and pass a reference, or raise Config.MaxInput",
		e.Name, e.Size, e.Limit)
}

// encode answers the exported fields of op as they are stored. The limit is in
// bytes: zero is the default of 1 MiB, more than storage.MaxInput counts as that.
func (r *registration) encode(op Operation, limit int) ([]byte, error) {
	if limit <= 0 {
		limit = DefaultMaxInput
	}
	limit = min(limit, storage.MaxInput)
	payload := []byte("null")
	if r.typ != nil {
		var err error
		if payload, err = json.Marshal(r.subject(op)); err != nil {
			return nil, r.inputError(err)
		}
		if err := r.checkText(payload); err != nil {
			return nil, err
		}
	}
	if size := inputHeader + len(payload); size > limit {
		return nil, &InputTooLargeError{Name: r.name, Size: size, Limit: limit}
	}
	return frameInput(inputPlain, "", payload), nil
}

// replaced is what encoding/json writes for bytes of a string that are no UTF-8; a
// replacement character that was there before it writes as itself.
var replaced = []byte(`\ufffd`)

// checkText refuses strings that would not come back as they were. Input with an
// encoding of its own may hold the same six bytes and mean them: then they survive
// another round.
func (r *registration) checkText(payload []byte) error {
	if !bytes.Contains(payload, replaced) {
		return nil
	}
	again, err := r.fresh()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(payload, r.subject(again)); err != nil {
		return r.inputError(err)
	}
	if second, err := json.Marshal(r.subject(again)); err != nil || bytes.Count(second, replaced) != bytes.Count(payload, replaced) {
		return r.textError()
	}
	return nil
}

func (r *registration) textError() error {
	return fmt.Errorf("%s: the input has a string that is not UTF-8, and JSON would change it: use []byte for bytes", r.name)
}

// decode answers a fresh operation from the factory with the input in its fields.
// What the input does not mention keeps the factory's default, and unexported
// dependencies are untouched. Fields the type no longer has are ignored; one that
// changed its type is an error.
func (r *registration) decode(input []byte) (Operation, error) {
	op, err := r.fresh()
	if err != nil {
		return nil, err
	}
	format, _, payload, err := parseInput(input)
	if err == nil && format != inputPlain {
		err = fmt.Errorf("format %d is unknown to this build", format)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: input: %w", r.name, err)
	}
	if r.typ == nil {
		return op, nil
	}
	if err := json.Unmarshal(payload, r.subject(op)); err != nil {
		return nil, r.inputError(err)
	}
	return op, nil
}

// sealInput is the input of a new row in its sealed form.
func (s *Sequencer) sealInput(ctx context.Context, row *storage.Execution) ([]byte, error) {
	_, _, payload, err := parseInput(row.Input)
	if err != nil {
		return nil, err
	}
	sealed, err := s.seal(ctx, row, storage.FieldInput, payload)
	if err != nil {
		return nil, err
	}
	return sealed, s.fits(row.Name, sealed)
}

// fits refuses an input whose sealed form is too large.
func (s *Sequencer) fits(name string, sealed []byte) error {
	if len(sealed) > s.cfg.MaxInput {
		return &InputTooLargeError{Name: name, Size: len(sealed), Limit: s.cfg.MaxInput}
	}
	return nil
}

// openInput is the attempt's input as decode reads it.
func (a *Attempt) openInput(ctx context.Context) ([]byte, error) {
	payload, err := a.open(ctx, a.exec, storage.FieldInput, a.exec.Input)
	if _, _, sealed := sealedWith(a.exec.Input); err != nil || !sealed {
		return payload, err
	}
	return frameInput(inputPlain, "", payload), nil
}

// StoredInput is the input of an execution as JSON, for people to read; sealed, and no
// input, where the operation is Encrypted.
func StoredInput(row *storage.Execution) (input json.RawMessage, sealed bool) {
	if len(row.Input) == 0 {
		return nil, false
	}
	format, _, payload, err := parseInput(row.Input)
	if err != nil || format != inputPlain {
		return nil, true
	}
	return payload, false
}

func frameInput(format byte, keyID string, payload []byte) []byte {
	b := make([]byte, 0, inputHeader+len(keyID)+len(payload))
	b = append(b, format, byte(len(keyID)))
	b = append(b, keyID...)
	return append(b, payload...)
}

func parseInput(b []byte) (format byte, keyID string, payload []byte, err error) {
	if len(b) < inputHeader || len(b) < inputHeader+int(b[1]) {
		return 0, "", nil, fmt.Errorf("%d bytes are too few for its header", len(b))
	}
	end := inputHeader + int(b[1])
	return b[0], string(b[inputHeader:end]), b[end:], nil
}

// inputError names operation and field. It keeps the kind of value JSON found and
// drops the value itself; for an encrypted operation nothing of a cause is kept,
// since user code may have put the value into it (S15.4).
func (r *registration) inputError(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind, _, _ := strings.Cut(e.Value, " ")
		field := e.Field
		if field == "" {
			field = "as a whole"
		}
		return fmt.Errorf("%s: input field %s: a JSON %s does not fit %s", r.name, field, kind, e.Type)
	}
	if r.encrypted {
		return fmt.Errorf("%s: the input does not fit %s (%T)", r.name, r.typ, err)
	}
	return fmt.Errorf("%s: input: %w", r.name, err)
}
