package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

var _ storage.Waker = (*Store)(nil)

// How often a watcher looks whether another process has written: while there are
// changes and some time after the last one so often that nobody notices, and then
// so rarely that it costs nothing. A look takes some ten microseconds.
const (
	lookSoon  = time.Millisecond
	lookLater = 20 * time.Millisecond
	calmAfter = 5 * time.Second
)

// Watch tells when work may have arrived, see [storage.Waker]. What this Store
// commits itself it tells at once, from the goroutine that committed. Of other
// processes, and of transactions that the caller commits, the file's version tells;
// it is looked at on a connection of its own, in the goroutine that called Watch.
func (s *Store) Watch(ctx context.Context, queues []string, wake func()) error {
	if err := s.ready(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	w, err := s.watchers.Join(queues, wake)
	if err != nil {
		return err
	}
	defer s.watchers.Leave(w)
	if s.loc.memory { // nobody else has it
		wake()
		return wait(ctx, w, nil)
	}
	e, err := openEye(ctx, s.loc, s.opts, queues)
	if err != nil {
		return s.fail("watch", err)
	}
	defer e.close()
	wake()
	return s.fail("watch", look(ctx, w, e))
}

// wait returns what ends the call, or nil when next has something.
func wait(ctx context.Context, w *wake.Watcher, next <-chan time.Time) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.Gone():
		return storage.ErrClosed
	case <-next:
		return nil
	}
}

// look wakes for what the eye sees until ctx is done.
func look(ctx context.Context, w *wake.Watcher, e *eye) error {
	timer := time.NewTimer(lookSoon)
	defer timer.Stop()
	changed := time.Now()
	for {
		if err := wait(ctx, w, timer.C); err != nil || ctx.Err() != nil {
			return err
		}
		moved, some, err := e.look(ctx)
		switch {
		case err != nil && code(err) != codeBusy:
			return err
		case moved:
			changed = time.Now()
		}
		if some {
			w.Wake()
		}
		if time.Since(changed) < calmAfter {
			timer.Reset(lookSoon)
		} else {
			timer.Reset(lookLater)
		}
	}
}

// eye looks at the file through a connection that does nothing else.
type eye struct {
	db      *sql.DB
	version *sql.Stmt
	waiting *sql.Stmt
	queues  string
	seen    int64
}

// The first changes with each commit of another connection. The second seeks, in
// the index of claimable rows, a due one in each queue; parked rows count wherever
// they are, since a lifted pause or a new build is what sets them free.
const (
	fileVersion = `PRAGMA data_version`
	someWaiting = `
SELECT EXISTS (
	SELECT 1 FROM json_each(?1) AS q CROSS JOIN sequencer_executions AS x ON x.queue = q.value
	WHERE x.state = 'pending' AND x.parked = 0 AND x.priority IN (1, 2, 3, 4) AND x.due_at <= ?2)
OR EXISTS (SELECT 1 FROM sequencer_executions WHERE parked = 1)`
)

func openEye(ctx context.Context, loc location, opts Options, queues []string) (_ *eye, err error) {
	e := &eye{queues: listOf(queues)}
	if e.db, err = openHandle(loc, loc.readerDSN(opts)); err != nil {
		return nil, err
	}
	e.db.SetMaxOpenConns(1)
	ctx = context.WithoutCancel(ctx)
	if e.version, err = e.db.PrepareContext(ctx, fileVersion); err == nil {
		if e.waiting, err = e.db.PrepareContext(ctx, someWaiting); err == nil {
			err = e.version.QueryRowContext(ctx).Scan(&e.seen)
		}
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// look reports whether another connection has committed since the last look, and
// whether there is something to claim now. A commit that left nothing wakes nobody:
// most are this process's own, ending what it had claimed.
func (e *eye) look(ctx context.Context) (moved, some bool, err error) {
	ctx = context.WithoutCancel(ctx) // it is short, and not worth the goroutine that could end it
	var version int64
	if err = e.version.QueryRowContext(ctx).Scan(&version); err != nil || version == e.seen {
		return false, false, err
	}
	if err = e.waiting.QueryRowContext(ctx, e.queues, time.Now().UnixMicro()).Scan((*truthColumn)(&some)); err == nil {
		e.seen = version
	}
	return true, some, err
}

// close closes the statements with the handle.
func (e *eye) close() { _ = e.db.Close() }
