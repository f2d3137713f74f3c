package sequencer

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Sealer encrypts what [Encrypted] operations keep in the ledger: input,
// checkpoints, results, what their rollback works from, and the messages of their
// errors. Package seal has one, a ring of keys; another may ask a key service. All
// methods are called concurrently.
type Sealer interface {
	// KeyID names the key that seals from now on. It is stored in clear with all that
	// the key sealed: letters, digits and ". _ : / -", at most 128 bytes.
	KeyID() string
	// Seal encrypts plaintext with that key and authenticates bound with it, which says
	// where the ciphertext belongs: to which execution, and as what.
	Seal(ctx context.Context, keyID string, plaintext, bound []byte) ([]byte, error)
	// Open decrypts what Seal made, with the same bound. An error that matches
	// ErrUnknownKey (there is no such key) or ErrDecrypt (these bytes were not made with
	// it, or do not belong there) is final for the execution, until somebody retries it.
	// Any other, as of a key service that does not answer, is an error of the attempt
	// like those of its handler.
	Open(ctx context.Context, keyID string, sealed, bound []byte) ([]byte, error)
	// Hash is a keyed hash of at least 16 bytes. It must not change when KeyID does:
	// unique keys and overlap keys are stored as hashes, and compared.
	Hash(ctx context.Context, text []byte) ([]byte, error)
}

// DecryptError says that something sealed cannot be opened here. It matches
// ErrDecrypt, and ErrUnknownKey where the key is missing.
type DecryptError struct {
	Name  string // of the operation
	What  string // input, checkpoint, result or message
	KeyID string // the key it was sealed with
	Err   error
}

func (e *DecryptError) Error() string {
	if errors.Is(e.Err, ErrUnknownKey) {
		return fmt.Sprintf("%s: its %s is sealed with key %q, which this process does not have: give the key back to Config.Sealer, then retry it",
			e.Name, e.What, e.KeyID)
	}
	return fmt.Sprintf("%s: its %s does not open with key %q: another key has this id here, or the stored bytes were changed or moved; "+
		"retry it once that is mended", e.Name, e.What, e.KeyID)
}

// Is makes errors.Is(err, ErrDecrypt) true.
func (e *DecryptError) Is(target error) bool { return target == ErrDecrypt }

// Unwrap gives the sealer's error.
func (e *DecryptError) Unwrap() error { return e.Err }

// fieldMessage is bound to the messages of errors, which are no field of a row.
const fieldMessage storage.Field = "message"

// bound is where a ciphertext belongs: moved to another key's id, operation,
// execution or field it does not open (Q7.5). The name is the row's, so that what
// an operation was called when it was stored stays readable. An undo carries input
// and result of what it undoes, as they were sealed; its checkpoint is its own. The input
// of a callback was sealed in its template, of which the policy tells.
func bound(keyID string, row *storage.Execution, field storage.Field) []byte {
	id := row.ID
	p, err := readPolicy(row.Policy)
	switch {
	case err == nil && !p.SealedAs.IsZero() && field == storage.FieldInput:
		id = p.SealedAs
	case !row.Undoes.IsZero() && row.Kind != storage.KindCallback && field != storage.FieldCheckpoint:
		id = row.Undoes
	}
	return joined("sequencer 1", keyID, row.Name, string(id[:]), string(field))
}

// joined is parts in a form that no other parts have.
func joined(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	return b
}

// sealedWith tells whether stored bytes are sealed, and with which key. What is
// not is an input's plain format, or JSON, which begins with no such byte.
func sealedWith(stored []byte) (keyID string, sealed []byte, ok bool) {
	if len(stored) == 0 || stored[0] != inputSealed {
		return "", nil, false
	}
	_, keyID, sealed, err := parseInput(stored)
	return keyID, sealed, err == nil
}

// seal makes the stored form of a field of row, which has its name and ids by now.
func (s *Sequencer) seal(ctx context.Context, row *storage.Execution, field storage.Field, plain []byte) ([]byte, error) {
	if s.cfg.Sealer == nil {
		return nil, fmt.Errorf("sealing the %s of %s: no sealer is configured (Config.Sealer)", field, row.Name)
	}
	keyID := s.cfg.Sealer.KeyID()
	if err := checkIdentifier("key id", keyID); err != nil {
		return nil, fmt.Errorf("sealing the %s of %s: %w", field, row.Name, err)
	}
	sealed, err := s.cfg.Sealer.Seal(ctx, keyID, plain, bound(keyID, row, field))
	if err != nil {
		return nil, fmt.Errorf("sealing the %s of %s with key %q: %w", field, row.Name, keyID, err)
	}
	return frameInput(inputSealed, keyID, sealed), nil
}

// open is the content of a stored field, sealed or not.
func (s *Sequencer) open(ctx context.Context, row *storage.Execution, field storage.Field, stored []byte) ([]byte, error) {
	keyID, sealed, ok := sealedWith(stored)
	if !ok {
		return stored, nil
	}
	if s.cfg.Sealer == nil {
		return nil, &DecryptError{Name: row.Name, What: string(field), KeyID: keyID, Err: ErrUnknownKey}
	}
	plain, err := s.cfg.Sealer.Open(ctx, keyID, sealed, bound(keyID, row, field))
	switch {
	case errors.Is(err, ErrUnknownKey), errors.Is(err, ErrDecrypt):
		return nil, &DecryptError{Name: row.Name, What: string(field), KeyID: keyID, Err: err}
	case err != nil:
		return nil, fmt.Errorf("opening the %s of %s with key %q: %w", field, row.Name, keyID, err)
	}
	return plain, nil
}

// open is the content of a field, for this attempt: what does not open will not do so
// next time either (Q7.8).
func (a *Attempt) open(ctx context.Context, row *storage.Execution, field storage.Field, stored []byte) ([]byte, error) {
	plain, err := a.seq.open(ctx, row, field, stored)
	if errors.Is(err, ErrDecrypt) {
		return nil, Fail(err)
	}
	return plain, err
}

// hashed is what stands for a key of an Encrypted operation in the store (Q7.3).
// Purpose parts keys that mean different things.
func (s *Sequencer) hashed(ctx context.Context, purpose string, parts ...string) (string, error) {
	const want = 16
	sum, err := s.cfg.Sealer.Hash(ctx, joined(append([]string{"sequencer 1", purpose}, parts...)...))
	if err == nil && len(sum) < want {
		err = fmt.Errorf("the sealer's hash has %d bytes, want %d or more", len(sum), want)
	}
	if err != nil {
		return "", fmt.Errorf("hashing a %s key: %w", purpose, err)
	}
	return "sealed:" + hex.EncodeToString(sum[:want]), nil
}

// secret reports whether this attempt's data must not be shown: its operation is
// Encrypted, or was when it was stored.
func (a *Attempt) secret() bool {
	if a.reg == nil {
		return false
	}
	_, _, sealed := sealedWith(a.exec.Input)
	return sealed || a.reg.encrypted
}

// checkSealer finds what can be found without sealing anything.
func (c *Config) checkSealer() error {
	if c.Sealer == nil {
		return nil
	}
	if err := checkIdentifier("key id", c.Sealer.KeyID()); err != nil {
		return fmt.Errorf("config Sealer: %w", err)
	}
	return nil
}
