package guides_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/seal"
	"github.com/gosequencer/sequencer/storage"
)

// Authenticate keeps secrets in its input.
type Authenticate struct {
	sequencer.Async
	sequencer.Encrypted
	APIKey    string `json:"api_key"`
	UserToken string `json:"user_token"`
}

func (*Authenticate) Handle(context.Context) error { return nil }

func dispatchSecret(ctx context.Context, seq *sequencer.Sequencer, out *page) error {
	if _, err := seq.Dispatch(ctx, &Authenticate{APIKey: "k-81", UserToken: "t-42"}); err != nil {
		return err
	}
	rows, err := seq.Store().Executions(ctx, storage.Filter{})
	if err != nil {
		return err
	}
	out.say("the ledger holds the key in clear: %t", bytes.Contains(rows[0].Input, []byte("k-81")))
	return nil
}

func TestEncryption(t *testing.T) { // S15, Q7
	file, err := seal.NewFile("2026-01") // a program reads its keys: seal.Load("keys.json")
	if err != nil {
		t.Fatal(err)
	}
	ring, err := file.Ring()
	if err != nil {
		t.Fatal(err)
	}
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "authenticate", sequencer.Make[Authenticate])
	example(t, "Encryption", reg, sequencer.Config{Sealer: ring}, dispatchSecret)
}
