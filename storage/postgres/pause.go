package postgres

import (
	"context"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/gosequencer/sequencer/storage"
)

// pauseSQL and resumeSQL write by primary key. A pause that is there stays as it is.
const (
	pauseSQL = `
INSERT INTO sequencer_pauses (kind, name, at, actor, reason) VALUES ($1::text, $2::text, $3::timestamptz, nullif($4::text, ''), nullif($5::text, ''))
ON CONFLICT DO NOTHING`
	resumeSQL = `DELETE FROM sequencer_pauses WHERE kind = $1::text AND name = $2::text`
)

// pause carries out ActPause and ActResume. What changes nothing is not audited.
func pause(ctx context.Context, q *session, o storage.Order) error {
	p := o.Pause
	if err := p.Validate(); err != nil {
		return err
	}
	if err := q.flush(ctx); err != nil { // for the clock
		return err
	}
	var n int64
	var err error
	if o.Action == storage.ActPause {
		n, err = q.exec(ctx, pauseSQL, string(p.Kind), clean(p.Name), q.now, clean(o.Actor), clean(o.Reason))
	} else {
		n, err = q.exec(ctx, resumeSQL, string(p.Kind), clean(p.Name))
	}
	if err != nil || n == 0 {
		return err
	}
	if o.Action == storage.ActResume {
		q.arrivals.Lifted(p)
	}
	queueAudit(q, string(o.Action), p.Target(), o.Actor, o.Reason, 1)
	return nil
}

// pausesSQL reads the whole table, by the order of its key.
const pausesSQL = `SELECT kind, name, at, actor, reason FROM sequencer_pauses ORDER BY kind COLLATE "C", name COLLATE "C"`

// Pauses implements [storage.Reader].
func (s *Store) Pauses(ctx context.Context) ([]storage.Pause, error) {
	pauses := []storage.Pause{}
	err := s.read(ctx, "read pauses", pausesSQL, func(r scanner) error {
		var p storage.Pause
		var kind string
		var actor, reason pgtype.Text
		err := r.Scan(&kind, &p.Name, &p.At, &actor, &reason)
		p.Kind, p.At, p.Actor, p.Reason = storage.PauseKind(kind), p.At.UTC(), actor.String, reason.String
		pauses = append(pauses, p)
		return err
	})
	return pauses, err
}
