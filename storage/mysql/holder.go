package mysql

import (
	"crypto/sha256"

	"github.com/gosequencer/sequencer/storage"
)

// A row's holder says what it is in the one index of live rows, see the schema. That
// of a running row is its worker's id, which begins with neither 0 nor 0xfe and above.

// nobody holds what can be claimed.
var nobody = make([]byte, 16)

// parkedHolder is where the parked rows of an operation are. Those of private queues
// are apart, for the sake of rescues.
func parkedHolder(queue, name string) []byte {
	sum := sha256.Sum256([]byte(name))
	holder := append([]byte{0xff}, sum[:15]...)
	if queue != "" && queue[:1] == storage.PrivateQueue {
		holder[0] = 0xfe
	}
	return holder
}
