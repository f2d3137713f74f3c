package redis

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Open connects to the server that address names: a URL in the form go-redis reads,
// redis:// or rediss:// (TLS), with ?ledger=name where the ledger is not the usual
// one. A server in cluster mode is found to be one; further nodes may be named by
// ?addr=host:port. With ?master_name= the address is that of a Sentinel. Close ends
// the connections.
func Open(ctx context.Context, address string, o Options) (*Store, error) {
	address, ledger, err := ledgerOf(address)
	if err != nil {
		return nil, err
	}
	if o.Ledger == "" {
		o.Ledger = ledger
	}
	if strings.ContainsAny(o.Ledger, "{}") {
		return nil, fmt.Errorf("redis ledger %q: its name cannot contain braces", o.Ledger)
	}
	client, addr, err := connect(ctx, address)
	if err != nil {
		return nil, err
	}
	s := New(client, o)
	s.owned = true
	if err := client.Ping(ctx).Err(); err != nil {
		_ = s.Close()
		return nil, &unreachableError{addr, err}
	}
	return s, nil
}

// ledgerOf takes what is ours from an address.
func ledgerOf(address string) (rest, ledger string, _ error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", "", fmt.Errorf("redis address: %w", withoutURL(err))
	}
	q := u.Query()
	ledger = q.Get("ledger")
	q.Del("ledger")
	u.RawQuery = q.Encode()
	return u.String(), ledger, nil
}

// withoutURL leaves out the address, which may hold a password.
func withoutURL(err error) error {
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // url.Parse returns nothing else
		return e.Err
	}
	return err
}

// connect makes the client that the address asks for.
func connect(ctx context.Context, address string) (_ redis.UniversalClient, addr string, _ error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, "", fmt.Errorf("redis address: %w", withoutURL(err))
	}
	switch {
	case u.Query().Has("master_name"):
		o, err := redis.ParseFailoverURL(address)
		if err != nil {
			return nil, "", fmt.Errorf("redis address: %w", err)
		}
		o.ContextTimeoutEnabled = true
		return redis.NewFailoverClient(o), u.Host, nil
	case u.Query().Has("addr"):
		return connectCluster(address)
	}
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, "", fmt.Errorf("redis address: %w", err)
	}
	o.ContextTimeoutEnabled = true
	client := redis.NewClient(o)
	info, err := client.Info(ctx, "cluster").Result()
	if err != nil {
		_ = client.Close()
		return nil, "", &unreachableError{o.Addr, err}
	}
	if !strings.Contains(info, "cluster_enabled:1") {
		return client, o.Addr, nil
	}
	_ = client.Close()
	return connectCluster(address)
}

func connectCluster(address string) (redis.UniversalClient, string, error) {
	o, err := redis.ParseClusterURL(address)
	if err != nil {
		return nil, "", fmt.Errorf("redis address: %w", err)
	}
	o.ContextTimeoutEnabled = true
	return redis.NewClusterClient(o), strings.Join(o.Addrs, ", "), nil
}
