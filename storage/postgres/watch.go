package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

var _ storage.Waker = (*Store)(nil)

// How long to wait before connecting again, at first and at most.
const (
	listenSoon  = 100 * time.Millisecond
	listenLater = 5 * time.Second
)

// Watch implements [storage.Waker]. What this Store commits itself it tells at
// once, from the goroutine that committed; of others the server tells, on a
// connection that is not the pool's. One that breaks is made again; that the server
// will not listen is an error.
func (s *Store) Watch(ctx context.Context, queues []string, call func()) error {
	bound, stop, err := s.enter(ctx)
	if err != nil {
		return explained("watch", err)
	}
	defer stop()
	if err := s.ready(bound); err != nil {
		return s.unwatched(ctx, err)
	}
	w, err := s.watchers.Join(queues, call)
	if err != nil {
		return explained("watch", err)
	}
	defer s.watchers.Leave(w)
	ear, _, err := s.listen(bound)
	for err == nil {
		w.Wake() // for what came before
		hear(bound, ear, w)
		ear, err = s.listenAgain(bound)
	}
	return s.unwatched(ctx, err)
}

// unwatched is what Watch returns: nothing once its caller wants no more.
func (s *Store) unwatched(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return nil
	case s.ending.Err() != nil:
		err = storage.ErrClosed
	}
	return explained("watch", err)
}

// hear wakes for each notification until the connection breaks or ctx is done, and
// then closes it.
func hear(ctx context.Context, ear *pgx.Conn, w *wake.Watcher) {
	defer hangUp(ctx, ear)
	for {
		n, err := ear.WaitForNotification(ctx)
		if err != nil {
			return
		}
		if w.Watches(n.Payload) {
			w.Wake()
		}
	}
}

func hangUp(ctx context.Context, ear *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = ear.Close(ctx)
}

// listenAgain connects until it succeeds, ctx is done, or the server refuses.
func (s *Store) listenAgain(ctx context.Context) (*pgx.Conn, error) {
	for pause := listenSoon; ; pause = min(2*pause, listenLater) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
		ear, refused, err := s.listen(ctx)
		if err == nil || refused || ctx.Err() != nil {
			return ear, err
		}
	}
}

// The channel is named after the schema, which is the ledger; a digest, because a
// channel's name is no longer than a schema's may be.
const (
	channel    = `'sequencer_' || md5(current_schema())`
	channelSQL = `SELECT ` + channel
)

// listen connects as the pool does. refused means that the server was reached and
// would not listen.
func (s *Store) listen(ctx context.Context) (_ *pgx.Conn, refused bool, err error) {
	pool := s.pool.Config()
	if pool.BeforeConnect != nil {
		if err := pool.BeforeConnect(ctx, pool.ConnConfig); err != nil {
			return nil, false, err
		}
	}
	ear, err := pgx.ConnectConfig(ctx, pool.ConnConfig)
	if err != nil {
		return nil, false, err
	}
	if pool.AfterConnect != nil {
		err = pool.AfterConnect(ctx, ear)
	}
	var name string
	if err == nil {
		err = ear.QueryRow(ctx, channelSQL).Scan(&name)
	}
	if err == nil {
		_, err = ear.Exec(ctx, `LISTEN `+pgx.Identifier{name}.Sanitize(), pgx.QueryExecModeSimpleProtocol)
		refused = code(err) != ""
	}
	if err != nil {
		hangUp(ctx, ear)
		return nil, refused, err
	}
	return ear, false, nil
}

// notifySQL tells other processes. The payload is a queue, or nothing for all.
const notifySQL = `SELECT pg_notify(` + channel + `, queue) FROM unnest($1::text[]) AS queue`

// arrived tells, after a commit, where something became claimable.
func (s *Store) arrived(a *wake.Arrivals) {
	if a.None() {
		return
	}
	s.watchers.Tell(a)
	if len(a.Shared()) > 0 {
		s.bell.ring(a)
	}
}

// queueNotify tells the same from inside a caller's transaction, whose commit
// nobody here will see. The server sends it with the commit, or not at all.
func (q *session) queueNotify() {
	if shared := q.arrivals.Shared(); len(shared) > 0 {
		q.queueScan(func(scanner) error { return nil }, notifySQL, shared)
	}
}
