package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// File is a key ring as it is kept: in a file, in a secret manager, in an environment
// variable. Text is secret as a whole; printing a File shows no key.
type File struct {
	from string // for messages
	ring stored
}

// stored is the form of a File. Keysets are Tink's, in JSON, in clear.
type stored struct {
	Current string          `json:"current"`
	Keys    []storedKey     `json:"keys"`
	Hash    json.RawMessage `json:"hash"`
}

type storedKey struct {
	ID     string          `json:"id"`
	Keyset json.RawMessage `json:"keyset"`
}

// NewFile makes a ring with one key and a hash key.
func NewFile(id string) (*File, error) {
	hash, err := newKeyset(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		return nil, err
	}
	f := &File{from: "new key ring", ring: stored{Hash: hash}}
	if err := f.Add(id); err != nil {
		return nil, err
	}
	return f, f.Use(id)
}

func newKeyset(template *tinkpb.KeyTemplate) (json.RawMessage, error) {
	handle, err := keyset.NewHandle(template)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	var b bytes.Buffer
	err = insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b))
	return json.RawMessage(b.Bytes()), err
}

// Add makes a key. It opens what it sealed, and seals nothing before Use.
func (f *File) Add(id string) error {
	if err := checkID(id); err != nil {
		return f.fail(err)
	}
	if f.has(id) {
		return f.fail(fmt.Errorf("there is a key %q already: an id names one key for ever", id))
	}
	key, err := newKeyset(template())
	if err != nil {
		return f.fail(err)
	}
	f.ring.Keys = append(f.ring.Keys, storedKey{ID: id, Keyset: key})
	return nil
}

// Use makes a key the one that seals.
func (f *File) Use(id string) error {
	if !f.has(id) {
		return f.fail(fmt.Errorf("there is no key %q to use: add it first", id))
	}
	f.ring.Current = id
	return nil
}

// Drop removes a key. What is sealed with it cannot be opened any more.
func (f *File) Drop(id string) error {
	if !f.has(id) {
		return f.fail(fmt.Errorf("there is no key %q to drop", id))
	}
	if id == f.ring.Current {
		return f.fail(fmt.Errorf("key %q seals: use another one first", id))
	}
	f.ring.Keys = slices.DeleteFunc(f.ring.Keys, func(k storedKey) bool { return k.ID == id })
	return nil
}

func (f *File) has(id string) bool {
	return slices.ContainsFunc(f.ring.Keys, func(k storedKey) bool { return k.ID == id })
}

func (f *File) fail(err error) error { return fmt.Errorf("%s: %w", f.from, err) }

// Text is the ring to be kept, readable by its owner alone.
func (f *File) Text() []byte {
	text, err := json.MarshalIndent(f.ring, "", "  ")
	if err != nil {
		panic(err) // its parts are JSON that was read or made here
	}
	return append(text, '\n')
}

// Write keeps the ring in a file that its owner alone can read, in the place of an
// older one all at once.
func (f *File) Write(path string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return f.fail(err)
	}
	_, err = tmp.Write(f.Text())
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return f.fail(errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

// IDs lists the keys, the oldest first.
func (f *File) IDs() []string {
	ids := make([]string, len(f.ring.Keys))
	for i, k := range f.ring.Keys {
		ids[i] = k.ID
	}
	return ids
}

// String says which keys there are.
func (f *File) String() string {
	return fmt.Sprintf("%s (%s; current %s)", f.from, strings.Join(f.IDs(), ", "), f.ring.Current)
}

// GoString does the same for %#v.
func (f *File) GoString() string { return f.String() }

// Ring is the sealer. Every problem is returned: a keyset that is none, or of
// another kind or length than it says.
func (f *File) Ring() (*Ring, error) {
	r := &Ring{current: f.ring.Current}
	var problems []error
	for _, k := range f.ring.Keys {
		primitive, err := readAEAD(k.Keyset)
		if err != nil {
			problems = append(problems, fmt.Errorf("key %q: %w: restore the file, or make another key with another id", k.ID, err))
			continue
		}
		r.keys = append(r.keys, opener{id: k.ID, aead: local{primitive}, own: true})
	}
	hash, err := readPRF(f.ring.Hash)
	if err != nil {
		problems = append(problems, fmt.Errorf("the hash key: %w: restore the file", err))
	}
	r.hash = hash
	if len(problems) == 0 {
		problems = append(problems, r.check())
	}
	if err := errors.Join(problems...); err != nil {
		return nil, f.fail(err)
	}
	return r, nil
}

func readHandle(text json.RawMessage) (*keyset.Handle, error) {
	read := func() *keyset.JSONReader { return keyset.NewJSONReader(bytes.NewReader(text)) }
	if _, err := read().Read(); err != nil {
		return nil, errors.New("this is not a Tink keyset in JSON") // the cause may quote it
	}
	handle, err := insecurecleartextkeyset.Read(read())
	if err != nil {
		return nil, fmt.Errorf("this is not a usable Tink keyset: %w", err)
	}
	return handle, nil
}

// readAEAD also seals and opens something, which finds what Tink finds only then.
func readAEAD(text json.RawMessage) (tink.AEAD, error) {
	handle, err := readHandle(text)
	if err != nil {
		return nil, err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("this keyset cannot encrypt: %w", err)
	}
	sealed, err := primitive.Encrypt([]byte("check"), nil)
	if err == nil {
		_, err = primitive.Decrypt(sealed, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("this keyset cannot encrypt: %w", err)
	}
	return primitive, nil
}

func readPRF(text json.RawMessage) (*prf.Set, error) {
	handle, err := readHandle(text)
	if err != nil {
		return nil, err
	}
	set, err := prf.NewPRFSet(handle)
	if err != nil {
		return nil, fmt.Errorf("this keyset cannot hash: %w", err)
	}
	return set, nil
}

// ReadFile reads a ring from a file, to change it.
func ReadFile(path string) (*File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key ring: %w", err)
	}
	return parse(text, "key ring "+path)
}

// Load reads a ring from a file, to use it.
func Load(path string) (*Ring, error) {
	f, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	return f.Ring()
}

// FromEnv reads a ring from an environment variable: the text, or base64 of it.
func FromEnv(name string) (*Ring, error) {
	text := strings.TrimSpace(os.Getenv(name))
	if text == "" {
		return nil, fmt.Errorf("key ring: the environment variable %s is empty: put the text of a key ring there, see seal.NewFile", name)
	}
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
		text = string(raw)
	}
	f, err := parse([]byte(text), "key ring in "+name)
	if err != nil {
		return nil, err
	}
	return f.Ring()
}

// ParseFile reads the text of a ring, to change it.
func ParseFile(text []byte) (*File, error) { return parse(text, "key ring") }

// Parse reads the text of a ring, to use it.
func Parse(text []byte) (*Ring, error) {
	f, err := parse(text, "key ring")
	if err != nil {
		return nil, err
	}
	return f.Ring()
}

func parse(text []byte, from string) (*File, error) {
	f := &File{from: from}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f.ring); err != nil { // its text might quote a key
		return nil, f.fail(errors.New("this is not the text of a key ring: restore the file, or make one with seal.NewFile"))
	}
	return f, nil
}
