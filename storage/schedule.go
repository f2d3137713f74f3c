package storage

import (
	"errors"
	"fmt"
	"time"
)

// Schedule is a row per named schedule: what its newest build declared, and how
// far it has fired. What the texts mean is the caller's affair.
type Schedule struct {
	Name      string `json:"name"`
	Spec      string `json:"spec"`           // when, as in "*/5 * * * *"
	Zone      string `json:"zone,omitempty"` // the time zone Spec is read in
	Operation string `json:"operation"`      // what a tick enqueues
	Queue     string `json:"queue"`
	Missed    string `json:"missed,omitempty"` // what becomes of ticks that nobody fired in time
	Build     int64  `json:"build,omitempty"`  // of the binary that declared it

	AnnouncedAt time.Time `json:"announced_at"`     // when the definition last changed
	LastTick    time.Time `json:"last_tick"`        // the latest tick that was fired or skipped
	LastID      ID        `json:"last_id,omitzero"` // the first execution of the latest tick that had any
	Paused      bool      `json:"paused,omitempty"` // read from the pauses
}

// Tick is one due instant of a schedule.
type Tick struct {
	Schedule string
	At       time.Time
}

// AnnounceRequest brings the definitions of schedules; of each, the fields from
// Name to Build are read. Names must differ.
//
// A definition is inserted, or replaces the one of its name if that one's Build is
// not newer; LastTick and LastID stay. A new row starts with LastTick = Now, so
// that its first tick is the next one. Where Spec or Zone changes LastTick becomes
// Now too, so that the new expression brings no burst of ticks in the past. A
// repeat changes nothing.
type AnnounceRequest struct {
	Now       time.Time
	Schedules []Schedule
}

// Validate returns an error unless every schedule has a name of its own.
func (r *AnnounceRequest) Validate() error {
	seen := make(map[string]bool, len(r.Schedules))
	for i := range r.Schedules {
		name := r.Schedules[i].Name
		if name == "" {
			return errors.New("a schedule needs a name")
		}
		if seen[name] {
			return fmt.Errorf("schedule %q is announced twice", name)
		}
		seen[name] = true
	}
	return nil
}
