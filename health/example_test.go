package health_test

import (
	"log"
	"net/http"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/health"
	"github.com/gosequencer/sequencer/storage/memory"
)

func Example() {
	seq, err := sequencer.New(memory.New(), sequencer.NewRegistry(), sequencer.Config{})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /livez", health.Live())
	mux.Handle("GET /readyz", health.Ready(seq, health.Options{Deployed: true}))
	// Output:
}
