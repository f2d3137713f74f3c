package fileop

import (
	"fmt"

	"github.com/gosequencer/sequencer"
)

// schedule adds what the file says of set times: a schedule of the operation's name.
func (f *File) schedule(reg *sequencer.Registry) error {
	h := f.Header
	switch {
	case h.Schedule == "" && (h.Zone != "" || h.Missed != nil):
		return fmt.Errorf("%s: schedule-zone and schedule-missed need a schedule", f.Path)
	case h.Schedule == "":
		return nil
	case f.Ordered():
		return fmt.Errorf("%s: schedule %s: an operation with a timestamp is done once, by deploy runs: "+
			"give the file a name without one", f.Path, h.Schedule)
	}
	var options []sequencer.ScheduleOption
	if h.Zone != "" {
		options = append(options, sequencer.InZone(h.Zone))
	}
	switch {
	case h.Missed == nil:
	case *h.Missed == 0:
		options = append(options, sequencer.SkipMissed())
	default:
		options = append(options, sequencer.RunMissed(int(*h.Missed)))
	}
	sequencer.Schedule(reg, f.Name, h.Schedule, sequencer.Named(f.Name, nil), options...)
	return nil
}
