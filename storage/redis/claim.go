package redis

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// claimBytes bounds what one claim reads, but for its first row.
const claimBytes = 16 << 20

// Claim implements [storage.Queue].
func (s *Store) Claim(ctx context.Context, r storage.ClaimRequest) (storage.Claimed, error) {
	var got storage.Claimed
	err := s.guarded(ctx, "claim", func(ctx context.Context) error {
		code, rest, err := s.verb(ctx, &claimScript, given(r.Now), appendClaim(nil, &r))
		if err != nil {
			return err
		}
		if code == "lease" {
			return leaseLost(r.Worker)
		}
		got, err = claimedOf(text(rest[0]))
		return err
	})
	return got, err
}

// given is a request's instant as the scripts take it.
func given(now time.Time) any {
	if now.IsZero() {
		return ""
	}
	return now.UnixMicro()
}

// appendClaim encodes a request for lua/claimed.lua.
func appendClaim(b []byte, r *storage.ClaimRequest) []byte {
	le := binary.LittleEndian
	b = append(b, r.Worker[:]...)
	b = le.AppendUint64(b, uint64(r.Build))
	b = le.AppendUint32(b, uint32(max(r.Limit, 0)))
	b = le.AppendUint32(b, claimBytes)
	b = le.AppendUint16(b, uint16(len(r.Queues)))
	b = le.AppendUint16(b, uint16(len(r.Names)))
	for _, list := range [][]string{r.Queues, r.Names} {
		for _, text := range list {
			b = le.AppendUint16(b, uint16(len(text)))
			b = append(b, text...)
		}
	}
	return b
}

// claimedOf reads what lua/claimed.lua answered.
func claimedOf(answer string) (storage.Claimed, error) {
	d := decoder{b: []byte(answer)}
	got := storage.Claimed{NextDue: -1}
	if due := d.int64(); due >= 0 {
		got.NextDue = time.Duration(due) * time.Microsecond
	}
	n := d.int()
	for range d.uint16() {
		got.PausedNames = append(got.PausedNames, string(d.take(int(d.uint16()))))
	}
	if n > 0 && d.err == nil {
		got.Executions = make([]storage.Execution, n)
	}
	var r row
	for i := range got.Executions {
		r = row{}
		d.record(&r)
		got.Executions[i] = r.Execution
	}
	return got, d.err
}
