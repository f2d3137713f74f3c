package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
)

// logLedger is the key of a log line's ledger.
const logLedger = "ledger"

// schemaVersion is what this binary wants. What earlier ones wrote is read as it is.
// A binary of schema 1 would end a flow without its callbacks, so it may not go on.
const schemaVersion = 2

// EvictionError says that the server may throw away keys when it is full. A ledger
// there would lose executions without anybody knowing.
type EvictionError struct {
	Policy string // as the server has it
}

func (e *EvictionError) Error() string {
	return fmt.Sprintf("redis has maxmemory-policy %s, which may throw away parts of the ledger", e.Policy)
}

// Hint is for whoever prints errors to people.
func (e *EvictionError) Hint() string {
	return "set maxmemory-policy noeviction on that server, or keep the ledger on another one"
}

// Setup implements [storage.Store]. It refuses a server that evicts keys with an
// [*EvictionError], and warns, in the log, of one that keeps no append-only file:
// see the package comment for what such a server may lose. Where the server does
// not tell its settings it warns of that.
func (s *Store) Setup(ctx context.Context) (storage.Schema, error) {
	ctx, stop, err := s.enter(ctx)
	if err != nil {
		return storage.Schema{}, explained("set up", err)
	}
	defer stop()
	found, err := s.present(ctx)
	switch {
	case err != nil:
		return storage.Schema{}, explained("set up", err)
	case found.OldestCompatible > found.Want:
		return found, &storage.SchemaError{Schema: found}
	}
	if err := s.inspect(ctx); err != nil {
		return storage.Schema{}, explained("set up", err)
	}
	if err := s.raise(ctx); err != nil {
		return storage.Schema{}, explained("set up", err)
	}
	found, err = s.present(ctx)
	return found, explained("set up", err)
}

// raise writes the schema unless there is this one or a later one. Of several that do
// this at once the others find that it is done.
func (s *Store) raise(ctx context.Context) error {
	for {
		err := s.client.Watch(ctx, func(tx *redis.Tx) error {
			found, err := s.present(ctx)
			if err != nil || found.Version >= schemaVersion {
				return err
			}
			_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
				pipe.HSet(ctx, s.key("meta"), "version", schemaVersion, "oldest_compatible", schemaVersion)
				return nil
			})
			return err
		}, s.key("meta"))
		if !errors.Is(err, redis.TxFailedErr) {
			return err
		}
	}
}

// inspect looks at what the server does with data, in a cluster each that has some.
func (s *Store) inspect(ctx context.Context) error {
	if cluster, is := s.client.(*redis.ClusterClient); is {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return s.inspectNode(ctx, node) })
	}
	return s.inspectNode(ctx, s.client)
}

func (s *Store) inspectNode(ctx context.Context, node redis.Cmdable) error {
	memory, err := node.Info(ctx, "memory").Result()
	if err != nil {
		return err
	}
	if policy := infoField(memory, "maxmemory_policy"); policy != "" && policy != "noeviction" {
		return &EvictionError{Policy: policy}
	} else if policy == "" {
		s.logger.WarnContext(ctx, "redis does not tell its maxmemory-policy: a ledger needs noeviction", logLedger, s.prefix)
	}
	persistence, err := node.Info(ctx, "persistence").Result()
	if err != nil {
		return err
	}
	if infoField(persistence, "aof_enabled") != "1" {
		s.logger.WarnContext(ctx, "redis keeps no append-only file: when it ends, all since its last snapshot is lost; set appendonly yes",
			logLedger, s.prefix)
	}
	return nil
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Schema implements [storage.Store].
func (s *Store) Schema(ctx context.Context) (storage.Schema, error) {
	ctx, stop, err := s.enter(ctx)
	if err != nil {
		return storage.Schema{}, explained("read the schema", err)
	}
	defer stop()
	found, err := s.present(ctx)
	return found, explained("read the schema", err)
}

func (s *Store) present(ctx context.Context) (storage.Schema, error) {
	found := storage.Schema{Want: schemaVersion}
	meta, err := s.client.HGetAll(ctx, s.key("meta")).Result()
	if err != nil || len(meta) == 0 {
		return found, err
	}
	if found.Version, err = strconv.Atoi(meta["version"]); err == nil {
		found.OldestCompatible, err = strconv.Atoi(meta["oldest_compatible"])
	}
	if err != nil {
		return found, fmt.Errorf("%w: %s holds %v", errMangled, s.key("meta"), meta)
	}
	return found, nil
}

// ready returns a *storage.SchemaError unless the ledger is there and of use to
// this binary. What was found usable stays so: later schemas say themselves whether
// this binary may go on.
func (s *Store) ready(ctx context.Context) error {
	if s.known.Load() {
		return nil
	}
	found, err := s.present(ctx)
	if err != nil {
		return err
	}
	if !found.Usable() {
		return &storage.SchemaError{Schema: found}
	}
	s.known.Store(true)
	return nil
}
