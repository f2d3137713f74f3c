package postgres

import (
	"unicode/utf8"

	"github.com/gosequencer/sequencer/storage"
)

func (f *finishing) outcomes(numbers []int) []sent {
	all := make([]sent, len(numbers))
	for i, n := range numbers {
		all[i].o = &f.request.Outcomes[n]
	}
	return all
}

// sent is an outcome as its columns.
type sent struct{ o *storage.Outcome }

func (s *sent) id() storage.ID  { return s.o.ID }
func (s *sent) delivery() int32 { return int32(s.o.Delivery) }
func (s *sent) state() string   { return string(s.o.State) }
func (s *sent) excuse() bool    { return s.o.Excuse }
func (s *sent) errors() int32   { return int32(s.o.Errors) }
func (s *sent) losses() int32   { return int32(s.o.Losses) }
func (s *sent) reason() string  { return clean(s.o.Reason) }
func (s *sent) forNow() bool    { return s.o.ForNow }
func (s *sent) env() string     { return s.o.Env }
func (s *sent) result() []byte  { return s.o.Result }
func (s *sent) delay() int64    { return s.o.Delay.Microseconds() }
func (s *sent) park() bool      { return s.o.Park }
func (s *sent) rewind() bool    { return s.o.Rewind }
func (s *sent) progress() bool  { return s.o.Progress != nil }
func (s *sent) failed() bool    { return s.o.Failure != nil }

func (s *sent) done() int64 {
	if s.o.Progress == nil {
		return 0
	}
	return s.o.Progress.Done
}

func (s *sent) total() int64 {
	if s.o.Progress == nil {
		return 0
	}
	return s.o.Progress.Total
}

func (s *sent) message() string {
	if s.o.Failure == nil {
		return ""
	}
	return shortened(clean(s.o.Failure.Message))
}

func (s *sent) group() string {
	if s.o.Failure == nil {
		return ""
	}
	return clean(s.o.Failure.Group)
}

// shortened cuts an error's text to what a row carries; its attempt keeps all.
func shortened(message string) string {
	const most = 1024
	if len(message) <= most {
		return message
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(message[cut]) {
		cut--
	}
	return message[:cut]
}
