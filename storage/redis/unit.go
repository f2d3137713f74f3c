package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// unit is a verb that is decided here and not in a script: whatever concerns flows,
// and what people do. It reads what it needs, decides, and writes all at once by
// lua/commit.lua, which does nothing if any of what was read has changed; then the
// verb is decided anew. So the rules of flows exist once, in package settle.
type unit struct {
	s     *Store
	now   time.Time
	token string // of the gate, "" = it is open

	rows     map[storage.ID]*change
	changed  []*change // in the order they were read
	flows    map[storage.ID]*flow
	holders  map[string]storage.ID // of unique keys, as they were read; zero = nobody
	taken    map[string]*row       // keys that rows of this unit take
	checks   []byte                // see lua/commit.lua
	commands commands
	arrivals wake.Arrivals
	claim    *storage.ClaimRequest // made after the writes
	claimed  storage.Claimed
}

// change is a row as it was read, and as it will be; nil = there is none.
type change struct {
	id       storage.ID
	was, now *row
}

// How often a unit is decided anew before it asks everybody to stand back, and how
// long that may last at most.
const (
	triesOpen = 4
	gateFor   = 5 * time.Second
)

// unit carries out f. Units of one store take turns, so that they do not stand in
// each other's way; those of others are met by the checks, and by the gate when that
// has been to no avail.
func (s *Store) unit(ctx context.Context, now time.Time, f func(context.Context, *unit) error) (storage.Claimed, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return storage.Claimed{}, context.Cause(ctx)
	}
	token := ""
	defer func() {
		if token != "" {
			s.openGate(ctx, token)
		}
	}()
	for try := 1; ; try++ {
		if try > triesOpen {
			var err error
			if token, err = s.closeGate(ctx, token); err != nil {
				return storage.Claimed{}, err
			}
		}
		u := &unit{
			s: s, token: token, rows: map[storage.ID]*change{}, flows: map[storage.ID]*flow{},
			holders: map[string]storage.ID{}, taken: map[string]*row{},
		}
		err := u.run(ctx, now, f)
		if err == nil {
			token = ""
			s.watchers.Tell(&u.arrivals)
			return u.claimed, nil
		}
		if !errors.Is(err, errMoved) {
			return storage.Claimed{}, err
		}
	}
}

func (u *unit) run(ctx context.Context, now time.Time, f func(context.Context, *unit) error) error {
	if now.IsZero() {
		at, err := u.s.time(ctx)
		if err != nil {
			return err
		}
		now = at
	}
	u.now = now.UTC().Truncate(time.Microsecond)
	err := f(ctx, u)
	if err != nil {
		if decided := u.verify(ctx); decided != nil {
			return decided
		}
		return err
	}
	return u.commit(ctx)
}

// verify returns errMoved if f refused because of something that has changed.
func (u *unit) verify(ctx context.Context) error {
	if len(u.changed) == 0 && len(u.checks) == 0 {
		return nil
	}
	u.commands, u.claim = commands{}, nil
	for _, c := range u.changed {
		c.now = c.was
	}
	for _, f := range u.flows {
		f.saved = false
	}
	if err := u.commit(ctx); errors.Is(err, errMoved) {
		return err
	}
	return nil
}

// commit writes what the unit decided, and claims.
func (u *unit) commit(ctx context.Context) error {
	checks := make([]byte, 0, len(u.changed)*(16+1+movingLen))
	for _, c := range u.changed {
		checks = append(checks, c.id[:]...)
		if c.was == nil {
			checks = append(checks, make([]byte, 1+movingLen)...)
		} else {
			checks = append(append(checks, 1), c.was.read...)
		}
		u.save(c)
	}
	if err := u.writeFlows(); err != nil {
		return err
	}
	var claim []byte
	if u.claim != nil {
		claim = appendClaim(nil, u.claim)
	}
	if message := u.s.message(&u.arrivals); message != "" {
		u.commands.add("PUBLISH", u.s.key("wake"), message)
	}
	code, rest, err := u.s.verb(ctx, &commitScript, u.now.UnixMicro(), u.token, claim, checks, u.checks, u.commands.appendTo(nil))
	switch {
	case err != nil:
		return err
	case code == "moved":
		return errMoved
	case code == "lease":
		return leaseLost(u.claim.Worker)
	case u.claim != nil:
		u.claimed, err = claimedOf(text(rest[0]))
		if len(u.claimed.Executions) < u.claim.Limit {
			u.arrivals.Taken(u.claim.Queues...)
		}
	}
	return err
}

// closeGate asks everybody else to stand back, or keeps asking.
func (s *Store) closeGate(ctx context.Context, token string) (string, error) {
	if token != "" {
		is, err := s.client.Get(ctx, s.key("gate")).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return token, err
		}
		if is == token {
			return token, nil
		}
	}
	token = storage.NewID().String()
	for {
		closed, err := s.client.SetNX(ctx, s.key("gate"), token, gateFor).Result()
		if err != nil || closed {
			return token, err
		}
		if err := sleep(ctx, standBack); err != nil {
			return "", err
		}
	}
}

// openGate is for a unit that came to nothing; one that wrote has opened it.
func (s *Store) openGate(ctx context.Context, token string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = s.eval(ctx, &openScript, token) // it opens by itself after gateFor
}

// check makes the unit void if this is not what the command answers any more.
func (u *unit) check(command, key, field string, is string, there bool) {
	present := "0"
	if there {
		present = "1"
	}
	for _, text := range []string{command, key, field, present, is} {
		u.checks = appendArg(u.checks, text)
	}
}

// field reads a field of a hash, which must not change meanwhile.
func (u *unit) field(ctx context.Context, key, field string) (string, bool, error) {
	value, err := u.s.client.HGet(ctx, u.s.key(key), field).Result()
	if errors.Is(err, redis.Nil) {
		u.check("HGET", u.s.key(key), field, "", false)
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	u.check("HGET", u.s.key(key), field, value, true)
	return value, true, nil
}

// read reads rows that are not read yet. What is read must not change meanwhile.
func (u *unit) read(ctx context.Context, ids ...storage.ID) error {
	var missing []storage.ID
	for _, id := range ids {
		if u.rows[id] == nil {
			c := &change{id: id}
			u.rows[id] = c
			u.changed = append(u.changed, c)
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	found, err := u.s.rows(ctx, missing)
	for i := range found {
		r := &found[i]
		now := *r
		*u.rows[r.ID] = change{id: r.ID, was: r, now: &now}
	}
	return err
}

// get returns a row as the unit has it, nil if there is none.
func (u *unit) get(ctx context.Context, id storage.ID) (*row, error) {
	err := u.read(ctx, id)
	return u.rows[id].now, err
}

// insert adds a row. That there was none is among the checks.
func (u *unit) insert(ctx context.Context, r *row) error {
	if err := u.read(ctx, r.ID); err != nil {
		return err
	}
	u.rows[r.ID].now = r
	u.takeKey(r)
	if r.State.Over() {
		return nil
	}
	return u.homed(ctx, r.WorkerID)
}

// takeKey notes that a live row holds its unique key from now on.
func (u *unit) takeKey(r *row) {
	if r.UniqueKey != "" && !r.State.Over() {
		u.taken[r.UniqueKey] = r
	}
}

// dueAfter makes a row runnable this much after now.
func (u *unit) dueAfter(r *row, delay time.Duration) {
	r.DueAt = u.now.Add(delay).Truncate(time.Microsecond)
}

// deadlineAnew counts the deadline from the due time.
func deadlineAnew(r *row) {
	r.DeadlineAt = time.Time{}
	if r.RetryFor > 0 {
		r.DeadlineAt = r.DueAt.Add(r.RetryFor).Truncate(time.Microsecond)
	}
}

// alive returns ErrLeaseLost unless the worker holds its lease.
func (u *unit) alive(ctx context.Context, worker storage.ID) error {
	till, there, err := u.s.lease(ctx, worker)
	if err == nil && (!there || !u.now.Before(till)) {
		err = leaseLost(worker)
	}
	return err
}

// save notes what must be written so that a row becomes what it now is.
func (u *unit) save(c *change) {
	if c.now == nil && c.was == nil || c.now != nil && c.was != nil && c.now.same(c.was) {
		return
	}
	id := string(c.id[:])
	if c.now == nil {
		u.commands.add("HDEL", u.s.key("x"), id)
		u.commands.add("HDEL", u.s.key("d"), id)
		if c.was.attempts {
			u.commands.add("DEL", u.s.key("a:"+id))
		}
		if !c.was.FlowID.IsZero() {
			u.commands.add("HDEL", u.s.key("g:"+string(c.was.FlowID[:])), id)
		}
	} else {
		u.commands.add("HSET", u.s.key("d"), id, c.now.appendMoving(nil))
		if fixed := appendFixed(nil, &c.now.Execution); c.was == nil || c.was.keyless || string(fixed) != string(appendFixed(nil, &c.was.Execution)) {
			u.commands.add("HSET", u.s.key("x"), id, fixed)
		}
		if c.was == nil {
			u.commands.add("SADD", u.s.key("names"), c.now.Name)
			if named(c.now.Kind) == 1 {
				u.commands.add("SADD", u.s.key("ordered"), c.now.Name)
			}
		}
		if c.now.runnable() && !c.now.DueAt.After(u.now) {
			u.arrivals.In(c.now.Queue)
		}
	}
	u.saveParts(c, id)
	was, now := places(c.was), places(c.now)
	for p, value := range was {
		if _, stays := now[p]; !stays {
			u.leave(p, value)
		}
	}
	for p, value := range now {
		if before, there := was[p]; !there || before != value {
			u.enter(p, value)
		}
	}
}

// saveParts writes what stands apart.
func (u *unit) saveParts(c *change, id string) {
	var was, now uint16
	if c.was != nil {
		was = binary.LittleEndian.Uint16(c.was.read[1:])
	}
	if c.now != nil {
		now = c.now.flags()
	}
	for _, p := range parts {
		switch {
		case now&p.flag != 0:
			if part := c.now.part(p.flag); was&p.flag == 0 || string(part) != string(c.was.part(p.flag)) {
				u.commands.add("HSET", u.s.key(p.key), id, part)
			}
		case was&p.flag != 0:
			u.commands.add("HDEL", u.s.key(p.key), id)
		}
	}
}

func (u *unit) enter(p place, value string) {
	key := u.s.key(p.key)
	switch p.in {
	case inSorted:
		u.commands.add("ZADD", key, value, p.member)
	case inSet:
		u.commands.add("SADD", key, p.member)
	case inHash:
		u.commands.add("HSET", key, p.member, value)
	case inCount:
		u.commands.count(key, p.member, 1)
	}
}

func (u *unit) leave(p place, _ string) {
	key := u.s.key(p.key)
	switch p.in {
	case inSorted:
		u.commands.add("ZREM", key, p.member)
	case inSet:
		u.commands.add("SREM", key, p.member)
	case inHash:
		u.commands.add("HDEL", key, p.member)
	case inCount:
		u.commands.count(key, p.member, -1)
	}
}

// commands are what a unit will write. Those of one kind for one key travel together,
// and those that take something away go first.
type commands struct {
	order  []commandKey
	args   map[commandKey][]any
	counts map[commandKey]int64 // HINCRBY: key and field
	list   []command            // that cannot be joined
}

type commandKey struct{ command, key string }

type command struct {
	name, key string
	args      []any
}

func (c *commands) add(name, key string, args ...any) {
	switch name {
	case "HSET", "HDEL", "ZADD", "ZREM", "SADD", "SREM":
	default:
		c.alone(name, key, args...)
		return
	}
	k := commandKey{name, key}
	if c.args == nil {
		c.args = map[commandKey][]any{}
	}
	if _, known := c.args[k]; !known {
		c.order = append(c.order, k)
	}
	c.args[k] = append(c.args[k], args...)
}

// alone adds a command that comes after all that can be joined.
func (c *commands) alone(name, key string, args ...any) {
	c.list = append(c.list, command{name, key, args})
}

func (c *commands) count(key, field string, by int64) {
	if c.counts == nil {
		c.counts = map[commandKey]int64{}
	}
	c.counts[commandKey{key, field}] += by
}

// argsAtATime divides by two, and Lua can unpack as many.
const argsAtATime = 4000

// appendTo adds each command with the number of its arguments, see lua/commit.lua.
func (c *commands) appendTo(b []byte) []byte {
	add := func(name, key string, args ...any) {
		b = binary.LittleEndian.AppendUint32(b, uint32(2+len(args)))
		b = appendArg(appendArg(b, name), key)
		for _, arg := range args {
			b = appendArg(b, arg)
		}
	}
	takes := func(k commandKey) bool { return k.command == "HDEL" || k.command == "ZREM" || k.command == "SREM" }
	slices.SortStableFunc(c.order, func(a, b commandKey) int { // what one row leaves another may enter
		switch {
		case takes(a) == takes(b):
			return 0
		case takes(a):
			return -1
		default:
			return 1
		}
	})
	for _, k := range c.order {
		for all := c.args[k]; len(all) > 0; {
			some := min(len(all), argsAtATime)
			add(k.command, k.key, all[:some]...)
			all = all[some:]
		}
	}
	for k, by := range c.counts {
		if by != 0 {
			add("HINCRBY", k.command, k.key, by)
		}
	}
	for _, l := range c.list {
		add(l.name, l.key, l.args...)
	}
	return b
}

// appendArg adds an argument with its length before it.
func appendArg(b []byte, arg any) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	switch arg := arg.(type) {
	case string:
		b = append(b, arg...)
	case []byte:
		b = append(b, arg...)
	case int:
		b = strconv.AppendInt(b, int64(arg), 10)
	case int64:
		b = strconv.AppendInt(b, arg, 10)
	default:
		panic(fmt.Sprintf("redis: an argument that is a %T", arg)) // of a command that is written in this package
	}
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}
