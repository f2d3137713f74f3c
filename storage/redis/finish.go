package redis

import (
	"context"
	"encoding/binary"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// Finish implements [storage.Queue]. It takes one script, unless an outcome asks for
// the rules of flows: then all of the request is decided here, see unit.
func (s *Store) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	var done storage.Finished
	err := s.guarded(ctx, "finish", func(ctx context.Context) error {
		f := finishing{request: &r}
		simple, err := f.pack(ctx, s)
		if err != nil {
			return err
		}
		if !simple {
			done, err = s.finishInFlow(ctx, r)
			return err
		}
		rules, err := f.run(ctx, s, &done)
		if rules {
			done, err = s.finishInFlow(ctx, r)
		}
		return err
	})
	if err != nil {
		return storage.Finished{}, err
	}
	return done, nil
}

// finishing encodes outcomes for lua/finish.lua.
type finishing struct {
	request       *storage.FinishRequest
	outcomes      []byte
	queues, stats texts
	flows         texts                // their ids
	numbers       map[statistic]uint32 // in stats
	unlock        texts                // owner, then name
	arrivals      wake.Arrivals
}

// pack encodes the request, unless the script cannot serve it.
func (f *finishing) pack(ctx context.Context, s *Store) (simple bool, _ error) {
	read, err := f.unread(ctx, s)
	if err != nil {
		return false, err
	}
	f.outcomes = make([]byte, 0, roomFor(f.request.Outcomes))
	seen := make(map[storage.ID]bool, len(f.request.Outcomes))
	for i := range f.request.Outcomes {
		o := &f.request.Outcomes[i]
		of := o.Of
		if read[o.ID] != nil {
			of = read[o.ID]
		}
		if seen[o.ID] || !storage.Running.CanBecome(o.State) || o.Rewind || of != nil && asksRules(o, of) || asksUnit(f.request, o) {
			return false, nil
		}
		seen[o.ID] = true
		if of == nil {
			of = &storage.Execution{} // there is no such row, so the fence will refuse it
		}
		f.add(o, of)
		for _, name := range o.Unlock {
			f.unlock.number(string(lockOwner{f.request.Worker, o.ID, o.Delivery}.encode()) + name)
		}
	}
	return true, nil
}

// roomFor is about how many bytes outcomes take, so that they are not moved while they
// are encoded.
func roomFor(outcomes []storage.Outcome) int {
	n := 0
	for i := range outcomes {
		n += 64 + len(outcomes[i].Result)
		if h := outcomes[i].Hook; h != nil {
			n += 192 + len(h.Input) + len(h.Policy)
		}
	}
	return n
}

// asksRules reports an outcome that may do more to a flow than let it go on.
func asksRules(o *storage.Outcome, of *storage.Execution) bool {
	if of.FlowID.IsZero() && of.Undoes.IsZero() || of.Kind == storage.Hook {
		return false
	}
	plain := of.Kind != storage.Undo && of.Kind != storage.Nested && of.Kind != storage.KindCallback && of.Undoes.IsZero()
	return o.State != storage.Pending && (o.State != storage.Completed || !plain || len(o.Added()) > 0)
}

// unread reads the rows that did not come with their outcomes.
func (f *finishing) unread(ctx context.Context, s *Store) (map[storage.ID]*storage.Execution, error) {
	var ids []storage.ID
	for i := range f.request.Outcomes {
		o := &f.request.Outcomes[i]
		if o.Of == nil || o.Of.ID != o.ID || o.State == storage.Pending && o.Of.Priority == 0 {
			ids = append(ids, o.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := s.rows(ctx, ids)
	read := make(map[storage.ID]*storage.Execution, len(rows))
	for i := range rows {
		read[rows[i].ID] = &rows[i].Execution
	}
	return read, err
}

// Bits of an outcome, as in lua/finish.lua.
const (
	outcomeExcuse = 1 << iota
	outcomeHome
	outcomePark
	outcomeForNow
)

func (f *finishing) add(o *storage.Outcome, of *storage.Execution) {
	le := binary.LittleEndian
	var what byte
	set := func(bit byte, is bool) {
		if is {
			what |= bit
		}
	}
	private := strings.HasPrefix(of.Queue, storage.PrivateQueue)
	set(outcomeExcuse, o.Excuse)
	set(outcomeHome, private)
	set(outcomePark, o.Park)
	set(outcomeForNow, o.ForNow)
	b := append(f.outcomes, o.ID[:]...)
	b = le.AppendUint32(b, uint32(o.Delivery))
	b = append(b, stateCodes[o.State], what)
	b = le.AppendUint32(b, uint32(o.Errors))
	b = le.AppendUint32(b, uint32(o.Losses))
	b = le.AppendUint64(b, uint64(o.Delay.Microseconds()))
	b = le.AppendUint64(b, uint64(o.Ran.Microseconds()))
	b = le.AppendUint32(b, f.queues.number(of.Queue))
	b = le.AppendUint32(b, f.stat(o, of))
	flow := uint32(0)
	if !of.FlowID.IsZero() {
		flow = f.flows.number(string(of.FlowID[:]))
	}
	b = le.AppendUint32(b, flow)
	b = append(b, byte(of.Priority), 0)
	at := len(b) - 1 // the number of parts
	part := func(kind byte, text []byte) {
		b[at]++
		b = append(b, kind)
		b = le.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	if o.Reason != "" || o.Env != "" {
		part('r', append(appendText(nil, o.Reason), o.Env...))
	}
	if o.Hook != nil && o.State.Over() {
		part('h', f.appendHook(nil, o.Hook))
	}
	if o.Drops() {
		part('x', appendDrop(nil, o))
	} else if o.Failure != nil {
		part('e', append(appendText(nil, shortened(o.Failure.Message)), o.Failure.Group...))
		part('a', appendFailure(nil, o.Failure))
	}
	if o.Result != nil {
		part('o', o.Result)
	}
	if o.Progress != nil {
		part('p', appendProgress(nil, o.Progress.Done, o.Progress.Total))
	}
	if o.State == storage.Pending {
		if o.Park {
			part('l', []byte(lane(of)))
		} else if o.Delay <= 0 {
			f.arrivals.In(of.Queue)
		}
	}
	f.outcomes = b
}

// lane names the set in which a parked row waits.
func lane(e *storage.Execution) string {
	return e.Queue + "\x00" + strconv.Itoa(e.Priority) + "\x00" + strconv.FormatInt(e.MinBuild, 10) + "\x00" + e.Name
}

// stat numbers what the outcome adds to, 0 for nothing.
func (f *finishing) stat(o *storage.Outcome, of *storage.Execution) uint32 {
	s := statisticOf(o, of)
	if s == "" {
		return 0
	}
	if n, known := f.numbers[s]; known {
		return n
	}
	if f.numbers == nil {
		f.numbers = map[statistic]uint32{}
	}
	f.numbers[s] = f.stats.number(string(s))
	return f.numbers[s]
}

// statistic is what an outcome adds to: the fields of a minute, each followed by
// endOfField. Outcomes that add to the same ones are summed together.
type statistic string

// endOfField is in no name.
const endOfField = "\x01"

func (s statistic) fields() []string {
	return strings.Split(strings.TrimSuffix(string(s), endOfField), endOfField)
}

// statisticOf returns none for a delivery that cost no attempt: it is no retry.
func statisticOf(o *storage.Outcome, of *storage.Execution) statistic {
	ending := string(o.State)
	if o.State == storage.Pending {
		if o.Excuse {
			return ""
		}
		ending = "retried"
	}
	var b strings.Builder
	for queue := range storage.CountedUnder(of.Kind, of.Queue, o) {
		b.WriteString(queue + "\x00" + of.Name + "\x00" + ending + endOfField)
	}
	return statistic(b.String())
}

// appendFailure encodes an attempt, but for what the script puts in front of it.
func appendFailure(b []byte, f *storage.Failure) []byte {
	for _, text := range []string{f.Outcome, f.Type, f.Message, f.Trace, f.Context, f.Group} {
		b = appendText(b, text)
	}
	return b
}

// run sends the request. rules means that nothing was written, because a flow may be
// over, or somebody asked an execution to stop.
func (f *finishing) run(ctx context.Context, s *Store, done *storage.Finished) (rules bool, _ error) {
	r := f.request
	claim, sc := []byte(nil), &finishScript
	if r.Claim != nil {
		c := *r.Claim
		c.Worker = r.Worker
		claim, sc = appendClaim(nil, &c), &finishAndClaim
	}
	args := make([]any, 0, 8+len(f.queues.list)+len(f.stats.list))
	args = append(args, given(r.Now), r.Worker[:], s.message(&f.arrivals), claim, f.outcomes)
	args = append(f.unlock.appendTo(f.flows.appendTo(f.stats.appendTo(f.queues.appendTo(args)))), s.origin)
	code, rest, err := s.verb(ctx, sc, args...)
	switch {
	case err != nil:
		return false, err
	case code == "lease":
		return false, leaseLost(r.Worker)
	case code == "rules":
		return true, nil
	}
	applied := text(rest[0])
	done.Applied = make([]bool, len(r.Outcomes))
	for i := range done.Applied {
		done.Applied[i] = applied[i] == '1'
	}
	if r.Claim != nil {
		done.Claimed, err = claimedOf(text(rest[1]))
	}
	for _, queue := range rest[2:] {
		f.arrivals.In(text(queue))
	}
	if r.Claim != nil && len(done.Claimed.Executions) < r.Claim.Limit {
		f.arrivals.Taken(r.Claim.Queues...)
	}
	s.watchers.Tell(&f.arrivals)
	return false, err
}

// shortened cuts an error message to what a row carries; the attempt keeps it whole.
func shortened(message string) string {
	const most = 1024
	if len(message) <= most {
		return message
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(message[cut]) { // never inside a character
		cut--
	}
	return message[:cut]
}
