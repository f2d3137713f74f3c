//go:build unix

package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/cli"
	"github.com/gosequencer/sequencer/guard"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/seal"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// app is the program that the scripts run: three lines of an application, over
// the operations that $OPS names and the migrations in ./migrations.
func app() int {
	ctx := context.Background()
	store, err := sqlite.Open(ctx, "app.db", sqlite.Options{})
	if err != nil {
		return complain(err)
	}
	defer store.Close()
	db, err := store.DB()
	if err != nil {
		return complain(err)
	}
	cfg := sequencer.Config{Actor: "tester@lab", ShutdownGrace: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	if lease := os.Getenv("LEASE"); lease != "" {
		if cfg.Lease, err = time.ParseDuration(lease); err != nil {
			return complain(err)
		}
	}
	if os.Getenv("GUARD") != "" {
		closed, err := guard.Func("maintenance", func(context.Context) (bool, string, error) { return false, "not on a Friday", nil })
		if err != nil {
			return complain(err)
		}
		cfg.Guards = []sequencer.Guard{closed}
	}
	if ids := strings.Fields(os.Getenv("KEYS")); len(ids) > 0 {
		if cfg.Sealer, err = keys(ids); err != nil {
			return complain(err)
		}
	}
	if os.Getenv("TRANSACTIONAL") != "" {
		cfg.Orchestrator = sequencer.TransactionalBatch()
	}
	if on := os.Getenv("MAY_APPROVE"); on != "" {
		cfg.MayApprove = func(_ context.Context, actor string, a sequencer.Approval) error {
			if actor == on {
				return nil
			}
			return fmt.Errorf("%s answers for %s", on, a.By)
		}
	}
	cfg.Observers = []sequencer.Observer{func(_ context.Context, e sequencer.Event) {
		if e.Kind == sequencer.EventApprovalNeeded {
			_ = os.WriteFile("asked", nil, 0o600) // for who awaits it
		}
	}}
	cfg.WatchedTags = strings.Fields(os.Getenv("WATCH"))
	if _, err := os.Stat("migrations"); !errors.Is(err, fs.ErrNotExist) {
		if _, err := store.Setup(ctx); err != nil { // goose reads the file, which must be there
			return complain(err)
		}
		if cfg.Migrations, err = goose.New(goose.SQLite, db, os.DirFS("migrations"), goose.Options{Tx: sqlite.Tx}); err != nil {
			return complain(err)
		}
	}
	reg := sequencer.NewRegistry()
	for name := range strings.FieldsSeq(os.Getenv("OPS")) {
		operations[name](reg)
	}
	seq, err := sequencer.New(store, reg, cfg)
	if err != nil {
		return complain(err)
	}
	return cli.Main(ctx, seq, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, cli.WithDB(db))
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "error:", err)
	return 1
}

const (
	seed   = "20240101000000_seed"
	second = "20240102000000_second"
)

func did(name string) func(context.Context) error {
	return func(context.Context) error { fmt.Fprintln(os.Stderr, "did", name); return nil }
}

func add(name string, fn func(context.Context) error, opts ...sequencer.RegisterOption) func(*sequencer.Registry) {
	return func(reg *sequencer.Registry) { sequencer.RegisterFunc(reg, name, fn, opts...) }
}

// operations by the words of $OPS.
var operations = map[string]func(*sequencer.Registry){
	"seed":   add(seed, did("seed"), sequencer.Undo(did("undo seed"))),
	"second": add(second, did("second"), sequencer.DependsOn(sequencer.Op(seed)), sequencer.Tagged("billing"), sequencer.Undo(did("undo second"))),
	"fail": add("20240103000000_fail", func(context.Context) error {
		if os.Getenv("MENDED") != "" {
			return nil
		}
		return fmt.Errorf("calling the bank: %w", errors.New("no money"))
	}),
	"panic": add("20240104000000_panic", func(context.Context) error { panic("at the disco") }),
	"skip":  add("20240105000000_skip", func(context.Context) error { return sequencer.Skip("there is no work") }),
	"amount": add("20240112000000_amount", func(ctx context.Context) error {
		sequencer.Progress(ctx, 30, 40)
		return errors.New("at row 31")
	}, sequencer.Estimate(func(context.Context) (int64, error) { return 20_000, nil })),
	"unknown": add("20240113000000_unknown", did("unknown"),
		sequencer.Estimate(func(context.Context) (int64, error) { return 0, errors.New("no such table: posts") })),
	"unless": add("20240106000000_unless", did("unless"), sequencer.When(func(context.Context) (bool, error) { return false, nil })),
	"retry": add("20240107000000_retry", func(ctx context.Context) error {
		if sequencer.Current(ctx).Number == 1 {
			return errors.New("not at the first try")
		}
		return nil
	}, sequencer.Tries(2)),
	"staging": add("20240108000000_staging", did("staging"), sequencer.Environments("staging")),
	"async":   add("20240109000000_async", did("async"), sequencer.Mark[sequencer.Async]()),
	"allowed": add("20240110000000_allowed", func(context.Context) error { return errors.New("never mind") }, sequencer.Mark[sequencer.AllowedToFail]()),
	"forever": add("20240111000000_forever", did("forever"), sequencer.Irreversible()),
	"slow": add("20240115000000_slow", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}, sequencer.Timeout(30*time.Millisecond)),
	"later": func(reg *sequencer.Registry) { sequencer.Register(reg, "20240112000000_later", sequencer.Make[later]) },
	"stop": add("20240113000000_stop", func(ctx context.Context) error {
		if os.Getenv("MENDED") != "" {
			return nil
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}),
	"crash": add("20240114000000_crash", func(context.Context) error {
		if os.Getenv("MENDED") != "" {
			return nil
		}
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}, sequencer.Mark[sequencer.TxNever]()),
	"hang": add("20240116000000_a_name_that_is_too_long_for_a_narrow_terminal", func(ctx context.Context) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			return err
		}
		<-ctx.Done() // two signals at once are one to the kernel; now the first has been heard
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			return err
		}
		time.Sleep(time.Minute) // sleep: the second signal ends the process long before
		return nil
	}),
	"drop":     add("20240118000000_drop", did("drop"), sequencer.ApprovedBy("dba")),
	"refund":   add("refund", did("refund"), sequencer.ApprovedBy("finance"), sequencer.Mark[sequencer.Async]()),
	"old":      add("20230101000000_old", did("old")),
	"customer": func(reg *sequencer.Registry) { sequencer.Register(reg, "sync_customer", sequencer.Make[customer]) },
	"mail":     func(reg *sequencer.Registry) { sequencer.Register(reg, "mail", sequencer.Make[mail]) },
	"patient": add("patient", func(ctx context.Context) error { // runs until it is told to stop
		if err := os.WriteFile("started", nil, 0o600); err != nil {
			return err
		}
		<-ctx.Done()
		return errors.Join(context.Cause(ctx), os.WriteFile("stopped", []byte(context.Cause(ctx).Error()), 0o600))
	}, sequencer.Mark[sequencer.Async]()),
	"importer": func(reg *sequencer.Registry) { // dispatches a batch with a chain in it, and prints its id
		for _, name := range []string{"users", "orders", "index", "report", "cleanup"} {
			sequencer.RegisterFunc(reg, name, did(name))
		}
		sequencer.RegisterFunc(reg, "prices", func(context.Context) error {
			if os.Getenv("MENDED") != "" {
				return nil
			}
			return errors.New("the bank is closed")
		})
		sequencer.RegisterFunc(reg, "start_import", func(ctx context.Context) error {
			seq := sequencer.From(ctx)
			flow, err := seq.Batch(
				sequencer.Named("users", nil), seq.Chain(sequencer.Named("orders", nil), sequencer.Named("index", nil)).Name("orders"), sequencer.Named("prices", nil),
			).Name("import").AllowFailures().Then(sequencer.Named("report", nil)).Finally(sequencer.Named("cleanup", nil)).OnQueue("imports").Dispatch(ctx)
			if err != nil {
				return err
			}
			return os.WriteFile("flow", []byte(flow.ID()), 0o600)
		})
	},
	"nightly": func(reg *sequencer.Registry) {
		op := sequencer.RegisterFunc(reg, "report", did("report"))
		sequencer.Schedule(reg, "nightly_report", "30 2 * * *", op, sequencer.InZone("Europe/Berlin"), sequencer.OnQueue("low"))
	},
	"often": func(reg *sequencer.Registry) {
		op := sequencer.RegisterFunc(reg, "beat", func(context.Context) error { return os.WriteFile("beaten", nil, 0o600) })
		sequencer.Schedule(reg, "heartbeat", "@every 1s", op)
	},
	"cycle": func(reg *sequencer.Registry) {
		a, b := "20240201000000_a", "20240202000000_b"
		sequencer.RegisterFunc(reg, a, did("a"), sequencer.DependsOn(sequencer.Op(b)))
		sequencer.RegisterFunc(reg, b, did("b"), sequencer.DependsOn(sequencer.Op(a)))
	},
	"orphan": add("20240203000000_orphan", did("orphan"), sequencer.DependsOn(sequencer.Op("20240101000000_sed"))),
	"secret": func(reg *sequencer.Registry) { sequencer.Register(reg, "secret", sequencer.Make[secret]) },
	"vault": func(reg *sequencer.Registry) {
		sequencer.Register(reg, "20240204000000_vault", func() *secret { return &secret{Token: "s3cret"} })
	},
	"malformed": add("20241301000000_malformed", did("malformed")),
}

// later is due in another age.
type later struct{}

func (*later) Handle(context.Context) error { return nil }
func (*later) ExecuteAt() time.Time         { return time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC) }

// customer is an operation with input.
type customer struct {
	ID int64 `json:"customer_id"`
}

func (c *customer) Handle(context.Context) error {
	fmt.Fprintln(os.Stderr, "customer", c.ID)
	return nil
}

// mail cannot be sent unless $MENDED.
type mail struct {
	N int `json:"n"`
}

func (m *mail) Handle(context.Context) error {
	switch {
	case os.Getenv("MENDED") != "":
		return nil
	case m.N%2 == 0:
		return fmt.Errorf("mailbox %d is full", m.N)
	}
	return errors.New("no route to host")
}

func (m *mail) Tags() []string { return []string{fmt.Sprintf("box:%d", m.N)} }

// secret is an operation whose input is sealed, and whose errors show it.
type secret struct {
	sequencer.Encrypted
	Token string `json:"token"`
}

func (s *secret) Handle(context.Context) error { return errors.New("refused " + s.Token) }

// keys is a ring of some of the keys in a file that all calls of a script share; the
// last seals.
func keys(ids []string) (sequencer.Sealer, error) {
	const path = "keys.json"
	f, err := seal.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = seal.NewFile("k1"); err == nil {
			err = errors.Join(f.Add("k2"), f.Add("k3"), os.WriteFile(path, f.Text(), 0o600))
		}
	}
	if err == nil {
		err = f.Use(ids[len(ids)-1])
	}
	for _, id := range []string{"k1", "k2", "k3"} {
		if err == nil && !slices.Contains(ids, id) {
			err = f.Drop(id)
		}
	}
	if err != nil {
		return nil, err
	}
	return f.Ring()
}

// words keeps the map honest: each name is used by a script.
func words() []string {
	var list []string
	for w := range operations {
		list = append(list, w)
	}
	slices.Sort(list)
	return list
}
