package storage

import "time"

// HoldKeyRequest gives a running execution a unique key that it was enqueued without:
// one that had to wait for others first, and would have kept the key from them. Or it
// takes its key away: one that is only to be held until the handler begins (Q4.7).
type HoldKeyRequest struct {
	Now      time.Time
	Worker   ID
	ID       ID
	Delivery int
	Name     string // of the execution, for the error
	Key      string // "" = it gives up the one it has
}
