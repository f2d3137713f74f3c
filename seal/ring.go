package seal

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/gosequencer/sequencer"
)

// hashSize is how many bytes a hash has.
const hashSize = 32

// Key is a key of one's own making, of a key service for example. What it cannot
// decrypt is an ordinary error of the attempt, since nobody can tell a service that
// does not answer from bytes that were tampered with.
type Key struct {
	ID   string // letters, digits and ". _ : / -", at most 128 bytes; stored in clear
	AEAD tink.AEADWithContext
}

// Config is what a ring of one's own keys is made of.
type Config struct {
	Keys []Key
	// Current is the id of the key that seals; default the last of Keys.
	Current string
	// Hash makes the hashes; all processes need the same for ever. prf.NewPRFSet makes
	// it from a keyset.
	Hash *prf.Set
}

// Ring is a sealer with several keys. It is safe for concurrent use, and printing it
// shows no key.
type Ring struct {
	current string
	keys    []opener
	hash    *prf.Set
}

var _ sequencer.Sealer = (*Ring)(nil)

// opener is a key and what its errors mean.
type opener struct {
	id   string
	aead tink.AEADWithContext
	own  bool // made of a keyset here: it does not fail for want of a service
}

// New makes a ring of keys that are not in a File. Every problem is returned.
func New(c Config) (*Ring, error) {
	r := &Ring{current: c.Current, hash: c.Hash}
	for _, k := range c.Keys {
		r.keys = append(r.keys, opener{id: k.ID, aead: k.AEAD})
	}
	return r, r.check()
}

var goodID = regexp.MustCompile(`^[A-Za-z0-9._:/-]{1,128}$`)

func checkID(id string) error {
	if goodID.MatchString(id) {
		return nil
	}
	return fmt.Errorf("key id %.140q: use 1 to 128 letters, digits and . _ : / -", id)
}

func (r *Ring) check() error {
	var problems []error
	if len(r.keys) == 0 {
		problems = append(problems, errors.New("there is no key: make one with seal.NewFile"))
	} else if r.current == "" {
		r.current = r.keys[len(r.keys)-1].id
	}
	for i, k := range r.keys {
		problems = append(problems, checkID(k.id))
		if k.aead == nil {
			problems = append(problems, fmt.Errorf("key %q has no AEAD", k.id))
		}
		if slices.ContainsFunc(r.keys[:i], func(o opener) bool { return o.id == k.id }) {
			problems = append(problems, fmt.Errorf("there are two keys %q: an id names one key for ever", k.id))
		}
	}
	if len(r.keys) > 0 && r.find(r.current) == nil {
		problems = append(problems, fmt.Errorf("the current key %q is not among them: there is %s", r.current, strings.Join(r.IDs(), ", ")))
	}
	if r.hash == nil {
		problems = append(problems, errors.New("there is no hash key: a ring needs one for unique keys and overlap keys"))
	} else if _, err := r.hash.ComputePrimaryPRF([]byte("check"), hashSize); err != nil {
		problems = append(problems, fmt.Errorf("the hash key: %w", err))
	}
	return errors.Join(problems...)
}

func (r *Ring) find(id string) *opener {
	if i := slices.IndexFunc(r.keys, func(k opener) bool { return k.id == id }); i >= 0 {
		return &r.keys[i]
	}
	return nil
}

// IDs lists the keys.
func (r *Ring) IDs() []string {
	ids := make([]string, len(r.keys))
	for i, k := range r.keys {
		ids[i] = k.id
	}
	return ids
}

// String says which keys there are.
func (r *Ring) String() string {
	return fmt.Sprintf("key ring (%s; current %s)", strings.Join(r.IDs(), ", "), r.current)
}

// KeyID implements [sequencer.Sealer].
func (r *Ring) KeyID() string { return r.current }

// Seal implements [sequencer.Sealer].
func (r *Ring) Seal(ctx context.Context, keyID string, plaintext, bound []byte) ([]byte, error) {
	k := r.find(keyID)
	if k == nil {
		return nil, fmt.Errorf("key %q: %w", keyID, sequencer.ErrUnknownKey)
	}
	return k.aead.EncryptWithContext(ctx, plaintext, bound)
}

// Open implements [sequencer.Sealer].
func (r *Ring) Open(ctx context.Context, keyID string, sealed, bound []byte) ([]byte, error) {
	k := r.find(keyID)
	if k == nil {
		return nil, fmt.Errorf("key %q: %w", keyID, sequencer.ErrUnknownKey)
	}
	plain, err := k.aead.DecryptWithContext(ctx, sealed, bound)
	if err != nil && k.own {
		return nil, fmt.Errorf("key %q: %w", keyID, sequencer.ErrDecrypt)
	}
	return plain, err
}

// Hash implements [sequencer.Sealer].
func (r *Ring) Hash(_ context.Context, text []byte) ([]byte, error) {
	return r.hash.ComputePrimaryPRF(text, hashSize)
}

// local is an AEAD that asks nobody.
type local struct{ tink.AEAD }

func (l local) EncryptWithContext(_ context.Context, plaintext, bound []byte) ([]byte, error) {
	return l.Encrypt(plaintext, bound)
}

func (l local) DecryptWithContext(_ context.Context, sealed, bound []byte) ([]byte, error) {
	return l.Decrypt(sealed, bound)
}

// template is what new keys are made of.
var template = aead.XChaCha20Poly1305KeyTemplate
