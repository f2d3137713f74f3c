package mysql

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// The conditions of a filter. Each is added with its argument only when it is asked
// for; no text of a caller becomes SQL.
const (
	byIDs       = `l.id IN (?)`
	byIDFrom    = `l.id >= ?`
	byIDTo      = `l.id <= ?`
	byStates    = `l.state IN (?)`
	byKinds     = `l.kind IN (?)`
	byName      = `l.name = ?`
	byNameLike  = `l.name LIKE ?`
	byQueue     = `l.queue = ?`
	byTag       = `EXISTS (SELECT 1 FROM sequencer_marks t WHERE t.mark = 'tag' AND t.value = ? AND t.created_at = l.created_at AND t.execution_id = l.id)`
	byFlow      = `l.flow_id = ?`
	byMember    = `l.member = ?`
	byMethod    = `l.method = ?`
	byUndoes    = `l.undoes = ?`
	byWorker    = `l.worker_id = ?`
	byGroup     = `l.error_group = ?`
	byUniqueKey = `l.unique_key = ?`
	bySince     = `l.created_at >= ?`
	byUntil     = `l.created_at < ?`
	byAfter     = `(l.created_at > ? OR l.created_at = ? AND l.id > ?)`
	byBefore    = `(l.created_at < ? OR l.created_at = ? AND l.id < ?)`
)

// conditionList collects conditions and their arguments.
type conditionList struct {
	all  []string
	args []any
}

func (c *conditionList) add(condition string, args ...any) {
	c.all = append(c.all, condition)
	c.args = append(c.args, args...)
}

func (c *conditionList) text(condition, value string) {
	if value != "" {
		c.add(condition, text(value))
	}
}

func (c *conditionList) id(condition string, value storage.ID) {
	if !value.IsZero() {
		c.add(condition, idArg(value))
	}
}

func (c *conditionList) String() string {
	if len(c.all) == 0 {
		return "TRUE"
	}
	return strings.Join(c.all, " AND ")
}

// conditions says of each part of a filter what it asks of a row.
func conditions(f *storage.Filter) (*conditionList, error) {
	c := &conditionList{}
	if len(f.IDs) > 0 {
		c.add(byIDs, idList(f.IDs))
	}
	if f.IDPrefix != "" {
		from, to, err := prefixRange(f.IDPrefix)
		if err != nil {
			return nil, err
		}
		c.add(byIDFrom, from)
		c.add(byIDTo, to)
	}
	if len(f.States) > 0 {
		c.add(byStates, spelled(f.States))
	}
	if len(f.Kinds) > 0 {
		c.add(byKinds, spelled(f.Kinds))
	}
	if strings.Contains(f.Name, "*") {
		c.add(byNameLike, text(likePattern.Replace(f.Name)))
	} else {
		c.text(byName, f.Name)
	}
	c.text(byQueue, f.Queue)
	c.text(byTag, f.Tag)
	c.id(byFlow, f.FlowID)
	c.text(byMember, f.Member)
	c.text(byMethod, f.Method)
	c.id(byUndoes, f.Undoes)
	c.id(byWorker, f.WorkerID)
	c.text(byGroup, f.Group)
	c.text(byUniqueKey, f.UniqueKey)
	if !f.Since.IsZero() {
		c.add(bySince, at(f.Since))
	}
	if !f.Until.IsZero() {
		c.add(byUntil, at(f.Until))
	}
	if f.After != nil {
		condition := byBefore
		if f.Oldest {
			condition = byAfter
		}
		instant := micro(f.After.At).UnixMicro()
		c.add(condition, instant, instant, f.After.ID[:])
	}
	return c, nil
}

// lead is a mark that leads to what a filter selects.
type lead struct {
	mark   string
	values textList
}

// leadOf finds it; without one the rows are walked by id, name or creation.
func leadOf(f *storage.Filter) (lead, bool) {
	switch {
	case len(f.IDs) > 0 || f.IDPrefix != "":
		return lead{}, false
	case !f.FlowID.IsZero():
		return lead{markFlow, textList{string(f.FlowID[:])}}, true
	case !f.Undoes.IsZero():
		return lead{markUndoes, textList{string(f.Undoes[:])}}, true
	case f.UniqueKey != "":
		return lead{markKey, textList{f.UniqueKey}}, true
	case f.Group != "":
		return lead{markGroup, textList{markValue(f.Group)}}, true
	case f.Tag != "":
		return lead{markTag, textList{f.Tag}}, true
	default:
		return lead{}, false
	}
}

// within bounds the walk over marks to the times of a filter, with what bounds returns.
func (lead) within(f *storage.Filter) (condition string) {
	if f.After != nil {
		condition = `m.created_at <= ? AND `
		if f.Oldest {
			condition = `m.created_at >= ? AND `
		}
	}
	if !f.Since.IsZero() {
		condition += `m.created_at >= ? AND `
	}
	if !f.Until.IsZero() {
		condition += `m.created_at < ? AND `
	}
	return condition
}

func (lead) bounds(f *storage.Filter) (args []any) {
	if f.After != nil {
		args = append(args, micro(f.After.At).UnixMicro())
	}
	if !f.Since.IsZero() {
		args = append(args, at(f.Since))
	}
	if !f.Until.IsZero() {
		args = append(args, at(f.Until))
	}
	return args
}

// stateLead is the same for history, where rows that did not complete are marked.
func stateLead(f *storage.Filter) (lead, bool) {
	if len(f.States) == 0 || slices.Contains(f.States, storage.Completed) {
		return lead{}, false
	}
	return lead{markState, spelled(f.States)}, true
}

func spelled[T ~string](list []T) textList {
	all := make(textList, len(list))
	for i, v := range list {
		all[i] = string(v)
	}
	return all
}

// likePattern turns * into the only wildcard (S32.5).
var likePattern = strings.NewReplacer("*", "%", "%", `\%`, "_", `\_`, `\`, `\\`)

// prefixRange is the range of ids whose text begins with prefix.
func prefixRange(prefix string) (from, to []byte, err error) {
	if len(prefix) < 8 {
		return nil, nil, errors.New("an id prefix needs at least 8 characters")
	}
	digits := strings.ReplaceAll(prefix, "-", "")
	if len(digits) > 32 || strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
		return nil, nil, fmt.Errorf("%q is not the beginning of an id", prefix)
	}
	rest := 32 - len(digits)
	from, err = hex.DecodeString(digits + strings.Repeat("0", rest))
	if err == nil {
		to, err = hex.DecodeString(digits + strings.Repeat("f", rest))
	}
	return from, to, err
}
