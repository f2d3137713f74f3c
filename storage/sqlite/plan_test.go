package sqlite

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer/storage"
)

// TestHotQueriesUseTheirIndexes asks SQLite how it would run each statement that
// is sent often or on large tables, and fails when it would walk a whole table.
// The value is an index it must use, "" = the primary key.
func TestHotQueriesUseTheirIndexes(t *testing.T) {
	t.Parallel()
	list := func(f storage.Filter) string {
		where, err := listing(f)
		if err != nil {
			t.Fatal(err)
		}
		return where.text(executionColumns)
	}
	id := storage.NewID()
	statements := map[string]struct{ query, index string }{
		"claim":                {takeDue, "COVERING INDEX sequencer_executions_claimable"},
		"claim with parked":    {claimParked, "sequencer_executions_parked"},
		"any parked":           {anyParked, "sequencer_executions_parked"},
		"next due":             {earliestDue, "COVERING INDEX sequencer_executions_claimable"},
		"next due with parked": {earliestParked, "sequencer_executions_parked"},
		"worker present":       {workerPresent, ""},
		"finish, over":         {finishOver, ""},
		"finish, again":        {finishAgain, ""},
		"finish, alike":        {finishAlike, ""},
		"finish, park alike":   {parkAlike, ""},
		"any parked of":        {anyParkedOf, "sequencer_executions_parked_build (name=? AND min_build<?)"},
		"finish, clean":        {finishClean, ""},
		"claim, read":          {claimNext, "INDEX sequencer_executions_claimable (queue=? AND priority=? AND due_at<?)"},
		"take one":             {takeOne, ""},
		"take next":            {takeNext, ""},
		"edges from":           {leaving, ""},
		"checkpoint":           {saveCheckpoint, ""},
		"reseal":               {resealInput, ""},
		"key holder":           {keyHolder, "sequencer_executions_unique"},
		"release":              {release, ""},
		"leaving":              {behind, ""},
		"cancel one":           {cancelOne, ""},
		"cancel members":       {cancelForward, "sequencer_executions_flow"},
		"undoable":             {undoable, "sequencer_executions_flow"},
		"edges of a flow":      {edgesOfFlow, "sequencer_executions_flow"},
		"edges to":             {waitsFor, "sequencer_edges_to"},
		"open flow behind":     {waitsFor, "sequencer_flows_parent"},
		"nested members":       {pendingNested, "sequencer_executions_flow"},
		"fallen members":       {fallen, "sequencer_executions_flow"},
		"flows inside":         {flowsInside, "sequencer_flows_parent"},
		"end of a flow":        {endNested, ""},
		"advance":              {advanceFlow, ""},
		"newest":               {newest, "sequencer_executions_newest"},
		"asked to stop":        {askedToStop, "sequencer_executions_held"},
		"present":              {present, "sequencer_workers_present"},
		"holders":              {holders, "sequencer_executions_held"},
		"held by":              {heldBy, "sequencer_executions_held"},
		"name known":           {nameKnown, "sequencer_executions_name"},
		"prune":                {prunable, "sequencer_executions_finished"},
		"drop tags":            {dropTags, "sequencer_tags USING PRIMARY KEY (tag=? AND at=? AND execution_id=?)"},
		"attempts":             {attemptsOf, ""},
		"statistics":           {statsBetween, ""},
		"pauses of a claim":    {claimedPauses, ""},
		"some waiting":         {someWaiting, "COVERING INDEX sequencer_executions_claimable (queue=? AND priority=? AND due_at<?)"},
		"queue states":         {queueStates, "COVERING INDEX sequencer_executions_claimable"},
		"a tick":               {moveOn, ""},
		"forget":               {mayForget, ""},
		"list":                 {list(storage.Filter{}), "sequencer_executions_created"},
		"list by id":           {list(storage.Filter{IDs: []storage.ID{id}}), ""},
		"list by prefix":       {list(storage.Filter{IDPrefix: id.String()[:8]}), ""},
		"list by name":         {list(storage.Filter{Name: "a"}), "sequencer_executions_name"},
		"list failed":          {list(storage.Filter{States: []storage.State{storage.Failed}}), "sequencer_executions_troubled"},
		"list by flow":         {list(storage.Filter{FlowID: id}), "sequencer_executions_flow"},
		"list by tag":          {list(storage.Filter{Tag: "a"}), "sequencer_tags USING PRIMARY KEY (tag=?)"},
		"list failed by tag":   {list(storage.Filter{Tag: "a", States: []storage.State{storage.Failed}}), "sequencer_executions_troubled"},
		"list by group":        {list(storage.Filter{Group: "a"}), "sequencer_executions_group"},
		"list by target":       {list(storage.Filter{Undoes: id}), "sequencer_executions_undoes"},
	}
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, st := range statements {
		var arguments []any
		for range strings.Count(st.query, "?") {
			arguments = append(arguments, 1)
		}
		rows, err := s.reader.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+st.query, arguments...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var plan []string
		err = eachRow(rows, func(rows *sql.Rows) error {
			var step, parent, unused int
			var detail string
			err := rows.Scan(&step, &parent, &unused, &detail)
			plan = append(plan, detail)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(plan, "\n\t")
		t.Logf("%s:\n\t%s", name, text)
		if !strings.Contains(text, st.index) {
			t.Errorf("%s does not use %s:\n\t%s", name, st.index, text)
		}
		for _, step := range plan {
			table, isScan := strings.CutPrefix(step, "SCAN ")
			table, _, indexed := strings.Cut(table, " USING ")
			inOrder := strings.HasPrefix(name, "claim") && !strings.HasSuffix(name, "parked") || name == "list by tag"
			if inOrder && strings.Contains(step, "TEMP B-TREE FOR ORDER BY") {
				t.Errorf("%s sorts all that it finds:\n\t%s", name, text)
			}
			if isScan && !indexed && (strings.HasPrefix(table, "sequencer_") || len(table) == 1 && table != "e") {
				t.Errorf("%s walks all of %s:\n\t%s", name, table, text)
			}
		}
	}
}
