package seal_test

import (
	"context"
	"fmt"
	"log"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/seal"
	"github.com/gosequencer/sequencer/storage/memory"
)

// SendStatement is kept sealed until a worker opens it.
type SendStatement struct {
	sequencer.Encrypted
	IBAN string `json:"iban"`
}

func (s *SendStatement) Handle(context.Context) error {
	fmt.Println("sending the statement of", s.IBAN)
	return nil
}

func Example() {
	ctx := context.Background()
	file, err := seal.NewFile("2026-01") // in a program: seal.Load("keys.json"), or seal.FromEnv
	if err != nil {
		log.Fatal(err)
	}
	ring, err := file.Ring()
	if err != nil {
		log.Fatal(err)
	}
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "send_statement", func() *SendStatement { return &SendStatement{} })
	seq, err := sequencer.New(memory.New(), reg, sequencer.Config{Sealer: ring})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := seq.Dispatch(ctx, &SendStatement{IBAN: "DE02 1203 0000 0000 2020 51"}); err != nil {
		log.Fatal(err)
	}
	if err := seq.Work(ctx, sequencer.WorkerConfig{StopWhenEmpty: true}); err != nil {
		log.Fatal(err)
	}
	// Output: sending the statement of DE02 1203 0000 0000 2020 51
}

func ExampleFile_rotation() {
	ctx := context.Background()
	file, err := seal.NewFile("2026-01")
	if err != nil {
		log.Fatal(err)
	}
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "send_statement", func() *SendStatement { return &SendStatement{} })
	store := memory.New()
	open := func() *sequencer.Sequencer { // every process, each time the file has changed
		ring, err := file.Ring()
		if err != nil {
			log.Fatal(err)
		}
		seq, err := sequencer.New(store, reg, sequencer.Config{Sealer: ring})
		if err != nil {
			log.Fatal(err)
		}
		return seq
	}
	if _, err := open().Dispatch(ctx, &SendStatement{IBAN: "DE02 1203 0000 0000 2020 51"}); err != nil {
		log.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	must(file.Add("2027-01")) // first all processes can open what it seals
	open()
	must(file.Use("2027-01")) // then it seals
	done, err := open().Rekey(ctx, "yearly rotation")
	must(err)
	fmt.Println(done.Changed, "sealed with", done.KeyID)
	must(file.Drop("2026-01")) // nothing needs it any more
	must(open().Work(ctx, sequencer.WorkerConfig{StopWhenEmpty: true}))
	// Output:
	// 1 sealed with 2027-01
	// sending the statement of DE02 1203 0000 0000 2020 51
}
