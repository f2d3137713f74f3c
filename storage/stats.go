package storage

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"
)

// Stat is what one minute brought for one name and ending, in one queue or with one
// watched tag.
type Stat struct {
	Minute time.Time     `json:"minute"`
	Queue  string        `json:"queue,omitempty"` // "" if Tag is set
	Tag    string        `json:"tag,omitempty"`   // a watched one (Q8.5); "" = it is by queue
	Name   string        `json:"name"`
	Ending string        `json:"ending"` // a final state, or "retried"
	N      int64         `json:"n"`
	Ran    time.Duration `json:"ran"`    // sum of run times
	Waited time.Duration `json:"waited"` // sum of times between due and start
}

// Tally sums statistics by how attempts ended.
type Tally struct {
	Completed int64         `json:"completed"`
	Failed    int64         `json:"failed"`
	Retried   int64         `json:"retried"`   // attempts after which another one was due
	Others    int64         `json:"others"`    // skipped, cancelled, interrupted
	Ran       time.Duration `json:"ran_ns"`    // of all together
	Waited    time.Duration `json:"waited_ns"` // from due to started, of all together
}

// Add counts a statistic.
func (t *Tally) Add(st *Stat) {
	switch st.Ending {
	case string(Completed):
		t.Completed += st.N
	case string(Failed):
		t.Failed += st.N
	case "retried":
		t.Retried += st.N
	default:
		t.Others += st.N
	}
	t.Ran += st.Ran
	t.Waited += st.Waited
}

// N is how many ended, whatever way.
func (t *Tally) N() int64 { return t.Completed + t.Failed + t.Retried + t.Others }

// MeanRan is how long one ran on average, 0 if there is none.
func (t *Tally) MeanRan() time.Duration { return t.Ran / time.Duration(max(t.N(), 1)) }

// MeanWaited is how long one waited on average, 0 if there is none.
func (t *Tally) MeanWaited() time.Duration { return t.Waited / time.Duration(max(t.N(), 1)) }

// StatsFilter selects statistics by time: those by queue, or those by watched tag.
type StatsFilter struct {
	Since, Until time.Time
	Watched      bool
	// Step adds up so many minutes, counted from 1970, in one; the Minute of what comes
	// back is the first of them. 0 = each minute by itself. Where a store can, it adds up
	// before anything is read.
	Step time.Duration
}

// Seconds is the step in seconds, which is at least a minute and a whole number of them.
func (f StatsFilter) Seconds() int64 {
	return max(int64(f.Step/time.Minute), 1) * 60
}

// Begin is the first minute of the step that a minute belongs to.
func (f StatsFilter) Begin(minute time.Time) time.Time {
	n := minute.Unix()
	return time.Unix(n-n%f.Seconds(), 0).UTC()
}

// Summed adds up what a store has by the minute, in the order of an answer.
func (f StatsFilter) Summed(all []Stat) []Stat {
	type key struct {
		minute                   time.Time
		queue, tag, name, ending string
	}
	at := map[key]int{}
	sums := []Stat{}
	for _, st := range all {
		st.Minute = f.Begin(st.Minute)
		k := key{st.Minute, st.Queue, st.Tag, st.Name, st.Ending}
		i, known := at[k]
		if !known {
			at[k] = len(sums)
			sums = append(sums, st)
			continue
		}
		sums[i].N += st.N
		sums[i].Ran += st.Ran
		sums[i].Waited += st.Waited
	}
	slices.SortFunc(sums, func(a, b Stat) int {
		return cmp.Or(a.Minute.Compare(b.Minute), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Tag, b.Tag),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.Ending, b.Ending))
	})
	return sums
}

// statQueue is the queue under which statistics count an execution, "" for none.
// Private queues are one, the work that a process does for its own callers; the
// tasks of a run are not counted there, because each comes once and is in the
// history.
func statQueue(kind Kind, queue string) string {
	switch {
	case !strings.HasPrefix(queue, PrivateQueue):
		return queue
	case kind == Unlisted:
		return PrivateQueue
	default:
		return ""
	}
}

// watchedTag starts what stands for a watched tag where a queue would: a name that no
// queue of users has.
const watchedTag = "#"

// CountedUnder is where a store counts an outcome of an execution: under its queue (see
// statQueue), and under each watched tag, in the form that [StatsFilter.Wants] reads.
// A hook is no execution of its own and counts nowhere.
func CountedUnder(kind Kind, queue string, o *Outcome) iter.Seq[string] {
	return func(yield func(string) bool) {
		if kind == Hook {
			return
		}
		if own := statQueue(kind, queue); own != "" && !yield(own) {
			return
		}
		for _, tag := range o.Watched {
			if !yield(watchedTag + tag) {
				return
			}
		}
	}
}

// Wants fills in what s was counted under, and reports whether the filter selects it;
// the time is for the store to look at.
func (f StatsFilter) Wants(s *Stat, counted string) bool {
	tag, watched := strings.CutPrefix(counted, watchedTag)
	if watched {
		s.Queue, s.Tag = "", tag
	} else {
		s.Queue, s.Tag = counted, ""
	}
	return watched == f.Watched
}
