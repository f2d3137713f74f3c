package mysql

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// Pauses are written by primary key. A pause that is there stays as it is.
const (
	isPausedSQL = `SELECT 1 FROM sequencer_pauses WHERE kind = ? AND name = ? FOR UPDATE`
	pauseSQL    = `INSERT INTO sequencer_pauses (kind, name, at, actor, reason) VALUES (?, ?, @sequencer_now, ?, ?)`
	resumeSQL   = `DELETE FROM sequencer_pauses WHERE kind = ? AND name = ?`
)

// pause carries out ActPause and ActResume. What changes nothing is not audited.
func pause(ctx context.Context, q *session, o storage.Order) error {
	p := o.Pause
	if err := p.Validate(); err != nil {
		return err
	}
	paused := false
	err := q.each(ctx, func(scanner) error { paused = true; return nil }, isPausedSQL, text(string(p.Kind)), text(p.Name))
	if err != nil || paused == (o.Action == storage.ActPause) {
		return err
	}
	if paused {
		q.queue(resumeSQL, text(string(p.Kind)), text(p.Name))
		q.arrivals.Lifted(p)
	} else {
		q.queue(pauseSQL, text(string(p.Kind)), text(p.Name), textArg(o.Actor), textArg(o.Reason))
	}
	queueAudit(q, string(o.Action), p.Target(), o.Actor, o.Reason, 1)
	return nil
}

// pausesSQL reads the whole table, in the order of its key.
const pausesSQL = `SELECT kind, name, at, actor, reason FROM sequencer_pauses ORDER BY kind, name`

// Pauses implements [storage.Reader].
func (s *Store) Pauses(ctx context.Context) ([]storage.Pause, error) {
	pauses := []storage.Pause{}
	err := s.read(ctx, "read pauses", pausesSQL, func(r scanner) error {
		var p storage.Pause
		err := r.Scan((*string)(&p.Kind), &p.Name, instant{&p.At}, optional{&p.Actor}, optional{&p.Reason})
		pauses = append(pauses, p)
		return err
	})
	return pauses, err
}
