package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// place is where one measurement keeps its rows: a file, a schema, a database, or the
// keys that contain a word. It travels to child processes.
type place struct {
	Store string `json:"store"`
	// Name is unique to the place: the schema, the database, the word in all keys.
	Name string `json:"name"`
	// Address is what the driver opens: the path of the file, the URL or the DSN.
	Address string `json:"address"`
}

// placeKind is what can be done with the places of one store.
type placeKind struct {
	store   string
	version func(ctx context.Context) (string, error) // of the server; an error: not reachable
	make    func(ctx context.Context, name string) (address string, err error)
	remove  func(ctx context.Context, p place) error
	size    func(ctx context.Context, p place) (bytes int64, err error)
	settle  func(ctx context.Context, p place) error
	// processes are those of a local server that work for the place and for nobody
	// else; nil where there are none.
	processes func(ctx context.Context, p place) ([]int, error)
}

// places are the kinds of store, in the order of the output.
var places = []placeKind{sqlitePlaces, postgresPlaces, redisPlaces, mysqlPlaces}

// dialTimeout is how long a server may take to answer.
const dialTimeout = 5 * time.Second

func newPlace(ctx context.Context, store string) (place, error) {
	p := place{Store: store, Name: fmt.Sprintf("test_%016x", rand.Uint64())}
	address, err := p.kind().make(ctx, p.Name)
	p.Address = address
	return p, err
}

func (p place) kind() placeKind {
	for _, k := range places {
		if k.store == p.Store {
			return k
		}
	}
	panic("no store " + p.Store)
}

// remove deletes the place and all that is in it.
func (p place) remove(ctx context.Context) error { return p.kind().remove(ctx, p) }

// size is how much room the store takes, indexes and dead rows included.
func (p place) size(ctx context.Context) (int64, error) { return p.kind().size(ctx, p) }

// settle lets the store do now what it does some time after many inserts, so that it
// happens to nobody in the middle of a measurement.
func (p place) settle(ctx context.Context) error { return p.kind().settle(ctx, p) }

// server is the address of a server: a variable, or a local default.
func server(variable, fallback string) string {
	if set := os.Getenv(variable); set != "" {
		return set
	}
	return fallback
}
