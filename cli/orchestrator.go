package cli

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gosequencer/sequencer"
)

// methodFlags say how a run is arranged. Without --orchestrator it is the one that
// the application configured.
type methodFlags struct {
	name     string
	strict   bool
	eager    bool
	rollback bool
}

// orchestrators are those that can be named, each with the flags that it knows.
var orchestrators = map[string]struct {
	knows string
	make  func(m *methodFlags) sequencer.Orchestrator
}{
	"sequential":            {"", func(*methodFlags) sequencer.Orchestrator { return sequencer.Sequential() }},
	"batch":                 {"", func(*methodFlags) sequencer.Orchestrator { return sequencer.ParallelBatch() }},
	"allowed-to-fail-batch": {"", func(*methodFlags) sequencer.Orchestrator { return sequencer.AllowedToFailBatch() }},
	"scheduled":             {"", func(*methodFlags) sequencer.Orchestrator { return sequencer.QueueScheduled() }},
	"transactional-batch": {"strict", func(m *methodFlags) sequencer.Orchestrator {
		o := sequencer.TransactionalBatch()
		if m.strict {
			o = o.Strict()
		}
		return o
	}},
	"dependency-graph": {"eager rollback-on-failure", func(m *methodFlags) sequencer.Orchestrator {
		o := sequencer.DependencyGraph()
		if m.eager {
			o = o.Eager()
		}
		if m.rollback {
			o = o.RollbackOnFailure()
		}
		return o
	}},
}

func orchestratorNames() string {
	return strings.Join(slices.Sorted(maps.Keys(orchestrators)), ", ")
}

func (m *methodFlags) add(f *pflag.FlagSet) {
	f.StringVar(&m.name, "orchestrator", "", "how to arrange the run: "+orchestratorNames())
	f.BoolVar(&m.strict, "strict", false, "with transactional-batch: refuse operations without a rollback")
	f.BoolVar(&m.eager, "eager", false, "with dependency-graph: start operations without waiting for their wave")
	f.BoolVar(&m.rollback, "rollback-on-failure", false, "with dependency-graph: undo what completed when one fails")
}

// orchestrator is the one that the flags name, nil for the configured one.
func (m *methodFlags) orchestrator() (sequencer.Orchestrator, error) {
	if m.name == "" {
		for flag, given := range m.given() {
			if given {
				return nil, usagef("--%s needs --orchestrator: say which one is meant", flag)
			}
		}
		return nil, nil //nolint:nilnil // there is none
	}
	o, ok := orchestrators[strings.ReplaceAll(m.name, "_", "-")] // the ledger spells them with underscores
	if !ok {
		return nil, usagef("unknown orchestrator %q: there are %s", m.name, orchestratorNames())
	}
	for flag, given := range m.given() {
		if given && !slices.Contains(strings.Fields(o.knows), flag) {
			return nil, usagef("--%s is not for the orchestrator %s", flag, m.name)
		}
	}
	return o.make(m), nil
}

func (m *methodFlags) given() map[string]bool {
	return map[string]bool{"strict": m.strict, "eager": m.eager, "rollback-on-failure": m.rollback}
}
