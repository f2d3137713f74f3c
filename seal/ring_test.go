package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/seal"
)

func newFile(t *testing.T, ids ...string) *seal.File {
	t.Helper()
	f, err := seal.NewFile(ids[0])
	for _, id := range ids[1:] {
		err = errors.Join(err, f.Add(id))
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func ringOf(t *testing.T, f *seal.File) *seal.Ring {
	t.Helper()
	r, err := f.Ring()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARotatedRingOpensWhatOlderKeysSealedAndNothingElse(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newFile(t, "k1")
	before := ringOf(t, f)
	sealed, err := before.Seal(ctx, before.KeyID(), []byte("secret"), []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Add("k2"), f.Use("k2")); err != nil {
		t.Fatal(err)
	}
	after := ringOf(t, f)
	if after.KeyID() != "k2" {
		t.Errorf("Q7.6: %s seals, want k2", after.KeyID())
	}
	if plain, err := after.Open(ctx, "k1", sealed, []byte("here")); err != nil || string(plain) != "secret" {
		t.Errorf("Q7.6: the old key opens %q, %v", plain, err)
	}
	for what, open := range map[string]func() ([]byte, error){
		"elsewhere":         func() ([]byte, error) { return after.Open(ctx, "k1", sealed, []byte("there")) },
		"with another key":  func() ([]byte, error) { return after.Open(ctx, "k2", sealed, []byte("here")) },
		"with a byte added": func() ([]byte, error) { return after.Open(ctx, "k1", append(bytes.Clone(sealed), 0), []byte("here")) },
		"empty":             func() ([]byte, error) { return after.Open(ctx, "k1", nil, []byte("here")) },
	} {
		if plain, err := open(); !errors.Is(err, sequencer.ErrDecrypt) {
			t.Errorf("S15.3: %s it opens as %q, %v; want ErrDecrypt", what, plain, err)
		}
	}
	if err := f.Drop("k1"); err != nil {
		t.Fatal(err)
	}
	if _, err := ringOf(t, f).Open(ctx, "k1", sealed, []byte("here")); !errors.Is(err, sequencer.ErrUnknownKey) {
		t.Errorf("Q7.6: a dropped key gives %v, want ErrUnknownKey", err)
	}
	one, err := before.Hash(ctx, []byte("card"))
	two, err2 := ringOf(t, f).Hash(ctx, []byte("card"))
	if err := errors.Join(err, err2); err != nil || !bytes.Equal(one, two) || len(one) != 32 {
		t.Errorf("Q7.3: the hash is %x and after the rotation %x, %v", one, two, err)
	}
}

func TestARingThatIsWrongIsFoundWhenItIsLoaded(t *testing.T) {
	t.Parallel()
	good := newFile(t, "k1", "k2").Text()
	change := func(old, now string) []byte {
		t.Helper()
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("there is no %q to change", old)
		}
		return bytes.ReplaceAll(good, []byte(old), []byte(now))
	}
	var parts struct {
		Keys []struct {
			Keyset struct {
				Key []struct{ KeyData struct{ Value string } }
			}
		}
		Hash json.RawMessage
	}
	if err := json.Unmarshal(good, &parts); err != nil {
		t.Fatal(err)
	}
	secret := parts.Keys[0].Keyset.Key[0].KeyData.Value
	short, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	short = append([]byte{short[0], short[1] - 16}, short[2:len(short)-16]...) // a field of 16 bytes instead of 32
	for name, c := range map[string]struct {
		text []byte
		says string
	}{
		"no JSON":               {[]byte("secret"), "not the text of a key ring: restore the file"},
		"Q7.10 a wrong length":  {change(secret, base64.StdEncoding.EncodeToString(short)), `key "k1": this is not a usable Tink keyset: xchacha20poly1305.NewKey: key.Len() = 16, want 32`},
		"no keyset":             {change(secret, "secret"), `key "k1": this is not a usable Tink keyset`},
		"current key missing":   {change(`"current": "k1"`, `"current": "k9"`), `the current key "k9" is not among them: there is k1, k2`},
		"two keys of one id":    {change(`"id": "k2"`, `"id": "k1"`), `two keys "k1"`},
		"an impossible id":      {change(`"id": "k2"`, `"id": "k 2"`), `key id "k 2"`},
		"a misspelled part":     {change(`"hash"`, `"hush"`), "not the text of a key ring"},
		"no keys":               {[]byte(`{"keys":[],"hash":` + string(parts.Hash) + `}`), "there is no key"},
		"a hash key that seals": {change(string(keysetOf(t, good)), string(parts.Hash)), "cannot encrypt"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "keys.json")
			if err := os.WriteFile(path, c.text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := seal.Load(path)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Fatalf("Load: %v, want one that names the file and says %q", err, c.says)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}

// keysetOf is the text of the first keyset as it stands in the file.
func keysetOf(t *testing.T, text []byte) []byte {
	t.Helper()
	from := bytes.Index(text, []byte(`"keyset": `)) + len(`"keyset": `)
	var raw json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(text[from:])).Decode(&raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestARingComesFromTheEnvironmentInTextOrInBase64(t *testing.T) {
	text := newFile(t, "k1").Text()
	for _, value := range []string{string(text), base64.StdEncoding.EncodeToString(text)} {
		t.Setenv("TEST_KEYS", value)
		if r, err := seal.FromEnv("TEST_KEYS"); err != nil || r.KeyID() != "k1" {
			t.Errorf("FromEnv: %v, %v", r, err)
		}
	}
	t.Setenv("TEST_KEYS", "")
	if _, err := seal.FromEnv("TEST_KEYS"); err == nil || !strings.Contains(err.Error(), "TEST_KEYS is empty") {
		t.Errorf("an empty variable: %v, want one that names it", err)
	}
}

func TestPrintingARingShowsNoKey(t *testing.T) {
	t.Parallel()
	f := newFile(t, "k1")
	r := ringOf(t, f)
	want := "key ring (k1; current k1)"
	if got := fmt.Sprintf("%v %+v", r, r); got != want+" "+want {
		t.Errorf("a ring prints as %s", got)
	}
	if got := fmt.Sprintf("%v %+v %#v", f, f, f); strings.Contains(got, "keyset") || !strings.Contains(got, "k1") {
		t.Errorf("a file prints as %s", got)
	}
}

func TestAFileRefusesWhatWouldLoseKeys(t *testing.T) {
	t.Parallel()
	f := newFile(t, "k1", "k2")
	for what, err := range map[string]error{
		"an id again": f.Add("k2"), "an id with a space": f.Add("k 3"), "using what is not there": f.Use("k3"),
		"dropping what seals": f.Drop("k1"), "dropping what is not there": f.Drop("k3"),
	} {
		if err == nil {
			t.Errorf("%s is not refused", what)
		}
	}
	if got := strings.Join(f.IDs(), " "); got != "k1 k2" || ringOf(t, f).KeyID() != "k1" {
		t.Errorf("afterwards there are %s", got)
	}
}

// kek is the key of a service that wraps keys, and may be down.
type kek struct {
	inner interface {
		Encrypt(plaintext, associatedData []byte) ([]byte, error)
		Decrypt(ciphertext, associatedData []byte) ([]byte, error)
	}
	down *bool
}

func (k kek) EncryptWithContext(_ context.Context, plain, bound []byte) ([]byte, error) {
	return k.inner.Encrypt(plain, bound)
}

func (k kek) DecryptWithContext(_ context.Context, sealed, bound []byte) ([]byte, error) {
	if *k.down {
		return nil, errors.New("503")
	}
	return k.inner.Decrypt(sealed, bound)
}

func TestAKeyServiceWrapsAKeyForEachValue(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	inner, err := aead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	down := false
	envelope, err := aead.NewKMSEnvelopeAEADWithContext(aead.XChaCha20Poly1305KeyTemplate(), kek{inner, &down})
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	hash, err := prf.NewPRFSet(hashes)
	if err != nil {
		t.Fatal(err)
	}
	r, err := seal.New(seal.Config{Keys: []seal.Key{{ID: "kms", AEAD: envelope}}, Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := r.Seal(ctx, "kms", []byte("secret"), []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := r.Open(ctx, "kms", sealed, []byte("here")); err != nil || string(plain) != "secret" {
		t.Errorf("opened %q, %v", plain, err)
	}
	if _, err := r.Open(ctx, "kms", sealed, []byte("there")); err == nil {
		t.Error("it opens elsewhere")
	}
	down = true
	if _, err := r.Open(ctx, "kms", sealed, []byte("here")); err == nil || errors.Is(err, sequencer.ErrDecrypt) {
		t.Errorf("a service that does not answer: %v, want an ordinary error", err)
	}
	if _, err := seal.New(seal.Config{Keys: []seal.Key{{ID: "kms"}}}); err == nil || !strings.Contains(err.Error(), "no AEAD") || !strings.Contains(err.Error(), "no hash key") {
		t.Errorf("an incomplete ring: %v, want every problem", err)
	}
}
