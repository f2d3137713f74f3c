package storage

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Role says when a callback of a flow is due. It is also the Method of the
// executions that come of it.
type Role string

// The roles of callbacks (Q5.17 to Q5.20).
const (
	RoleThen     Role = "then"     // the flow ended and no member failed, was cancelled or interrupted; once for ever
	RoleCatch    Role = "catch"    // the first member failed that is not allowed to; once a generation
	RoleFinally  Role = "finally"  // the flow ended, and the callbacks above did too; once a generation
	RoleProgress Role = "progress" // members ended; one at a time
)

// Roles are a set of roles; as Flow.Fired they also remember how progress stands.
type Roles int

// What a set of roles is made of.
const (
	HasThen Roles = 1 << iota
	HasCatch
	HasFinally
	HasProgress
	progressAgain                 // members ended while a progress callback was open
	progressOpen  = Roles(1) << 8 // from here on: how many of these are open
)

// Bit is the set with this role alone, 0 for an unknown one.
func (r Role) Bit() Roles {
	switch r {
	case RoleThen:
		return HasThen
	case RoleCatch:
		return HasCatch
	case RoleFinally:
		return HasFinally
	case RoleProgress:
		return HasProgress
	}
	return 0
}

// Has reports whether the set has all roles of the other one.
func (r Roles) Has(other Roles) bool { return r&other == other }

// Callback is work that a flow starts by itself when its role is due: templates of
// executions and of flows nested in them. Their ids only tie the template together;
// each time the callback fires they become new ones, see [CallbackID].
//
// An execution without FlowID belongs to the callback itself: it becomes a row of
// [KindCallback] in the flow, whose Method is the role and, for [RoleCatch], whose
// Undoes is the member that failed. It may stand for one of Flows, as a [Nested]
// member does. Edges may join executions of the callback, which is how several
// callbacks of one role keep their order. None has a UniqueKey: what has one takes it
// when it runs, by [Queue].HoldKey.
type Callback struct {
	Role       Role
	Flows      []Flow
	Executions []Execution
	Edges      []Edge
}

// RolesOf is the set of roles that the callbacks have.
func RolesOf(callbacks []Callback) Roles {
	var set Roles
	for i := range callbacks {
		set |= callbacks[i].Role.Bit()
	}
	return set
}

// CallbackID derives the id of what a template becomes when it fires: in this flow,
// in this generation, after so many ended members (0 but for [RoleProgress]). Every
// backend finds the same one, so a repeated step cannot create a second. Of those that
// fire together the ones whose templates were made first come first: the Catch of a batch
// before that of the chain it is in (Q6.10).
func CallbackID(flow, template ID, generation, ended int) ID {
	b := make([]byte, 0, 2*len(ID{})+16)
	b = append(append(b, flow[:]...), template[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(generation)) //nolint:gosec // bits are all that counts
	b = binary.BigEndian.AppendUint64(b, uint64(ended))      //nolint:gosec // bits are all that counts
	sum := sha256.Sum256(b)
	id := template // whose time it keeps, and its place among those of one time
	copy(id[8:], sum[:])
	id[6] = id[6]&0x0f | 0x80 // version 8, "custom", and the variant of RFC 9562
	id[8] = id[8]&0x3f | 0x80
	return id
}

// template is the stored form of a callback, and of a flow nested in one.
type template struct {
	Role       Role             `json:"role,omitempty"`
	Flows      []flowTemplate   `json:"flows,omitempty"`
	Executions []memberTemplate `json:"executions,omitempty"`
	Edges      []edgeTemplate   `json:"edges,omitempty"`
}

type edgeTemplate struct {
	From  ID   `json:"from"`
	To    ID   `json:"to"`
	Needs bool `json:"needs,omitempty"`
}

type flowTemplate struct {
	ID        ID         `json:"id"`
	ParentID  ID         `json:"parent"`
	Kind      FlowKind   `json:"kind"`
	Name      string     `json:"name,omitempty"`
	Method    string     `json:"method,omitempty"`
	Policy    FlowPolicy `json:"policy"`
	Reason    string     `json:"reason,omitempty"`
	Actor     string     `json:"actor,omitempty"`
	Host      string     `json:"host,omitempty"`
	Build     int64      `json:"build,omitempty"`
	Options   []byte     `json:"options,omitempty"`
	Callbacks []template `json:"callbacks,omitempty"`
}

type memberTemplate struct {
	ID            ID            `json:"id"`
	Name          string        `json:"name"`
	Kind          Kind          `json:"kind"`
	Method        string        `json:"method,omitempty"`
	Actor         string        `json:"actor,omitempty"`
	Queue         string        `json:"queue"`
	Priority      int           `json:"priority,omitempty"`
	Delay         time.Duration `json:"delay,omitempty"`
	RetryFor      time.Duration `json:"retry_for,omitempty"`
	Input         []byte        `json:"input,omitempty"`
	Policy        []byte        `json:"policy,omitempty"`
	OnLoss        OnLoss        `json:"on_loss"`
	MinBuild      int64         `json:"min_build,omitempty"`
	Tags          []string      `json:"tags,omitempty"`
	Undoable      bool          `json:"undoable,omitempty"`
	AllowedToFail bool          `json:"allowed_to_fail,omitempty"`
	Checksum      string        `json:"checksum,omitempty"`
	FlowID        ID            `json:"flow,omitzero"`
	Member        string        `json:"member,omitempty"`
	Position      int           `json:"position,omitempty"`
}

// EncodeCallbacks makes the one form in which every backend keeps callbacks, nil
// when there are none. Equal callbacks give equal bytes. More than [MaxInput] is an
// error, as are a callback without a known role, an empty flow in one, and a unique key.
func EncodeCallbacks(callbacks []Callback) ([]byte, error) {
	if len(callbacks) == 0 {
		return nil, nil
	}
	list, err := templates(callbacks)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("callbacks: %w", err)
	}
	if len(b) > MaxInput {
		return nil, fmt.Errorf("callbacks of a flow take %d bytes, at most %d are kept: give them less input", len(b), MaxInput)
	}
	return b, nil
}

// DecodeCallbacks reads what EncodeCallbacks made.
func DecodeCallbacks(b []byte) ([]Callback, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var list []template
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("callbacks: %w", err)
	}
	return callbacksOf(list), nil
}

func templates(callbacks []Callback) ([]template, error) {
	var list []template
	for _, c := range callbacks {
		if c.Role.Bit() == 0 {
			return nil, fmt.Errorf("a callback has no role %q", c.Role)
		}
		t := template{Role: c.Role}
		for _, f := range c.Flows {
			nested, err := templates(f.Callbacks)
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(c.Executions, func(e Execution) bool { return e.FlowID == f.ID }) {
				return nil, fmt.Errorf("flow %q of a %s callback is empty: leave it out", f.Name, c.Role)
			}
			t.Flows = append(t.Flows, flowTemplate{
				ID: f.ID, ParentID: f.ParentID, Kind: f.Kind, Name: f.Name, Method: f.Method, Policy: f.Policy, Reason: f.Reason,
				Actor: f.Actor, Host: f.Host, Build: f.Build, Options: f.Options, Callbacks: nested,
			})
		}
		for _, e := range c.Executions {
			if e.UniqueKey != "" {
				return nil, fmt.Errorf("%s of a %s callback has a unique key: it may take one when it runs", e.Name, c.Role)
			}
			t.Executions = append(t.Executions, memberTemplate{
				ID: e.ID, Name: e.Name, Kind: e.Kind, Method: e.Method, Actor: e.Actor, Queue: e.Queue, Priority: e.Priority,
				Delay: e.Delay, RetryFor: e.RetryFor, Input: e.Input, Policy: e.Policy,
				OnLoss: e.OnLoss, MinBuild: e.MinBuild, Tags: e.Tags, Undoable: e.Undoable, AllowedToFail: e.AllowedToFail,
				Checksum: e.Checksum, FlowID: e.FlowID, Member: e.Member, Position: e.Position,
			})
		}
		for _, e := range c.Edges {
			t.Edges = append(t.Edges, edgeTemplate(e))
		}
		list = append(list, t)
	}
	return list, nil
}

func callbacksOf(list []template) []Callback {
	var callbacks []Callback
	for _, t := range list {
		c := Callback{Role: t.Role}
		for _, f := range t.Flows {
			c.Flows = append(c.Flows, Flow{
				ID: f.ID, ParentID: f.ParentID, Kind: f.Kind, Name: f.Name, Method: f.Method, Policy: f.Policy, Reason: f.Reason,
				Actor: f.Actor, Host: f.Host, Build: f.Build, Options: f.Options, Callbacks: callbacksOf(f.Callbacks),
			})
		}
		for _, e := range t.Executions {
			c.Executions = append(c.Executions, Execution{
				ID: e.ID, Name: e.Name, Kind: e.Kind, Method: e.Method, Actor: e.Actor, Queue: e.Queue, Priority: e.Priority,
				Delay: e.Delay, RetryFor: e.RetryFor, Input: e.Input, Policy: e.Policy,
				OnLoss: e.OnLoss, MinBuild: e.MinBuild, Tags: e.Tags, Undoable: e.Undoable, AllowedToFail: e.AllowedToFail,
				Checksum: e.Checksum, FlowID: e.FlowID, Member: e.Member, Position: e.Position,
			})
		}
		for _, e := range t.Edges {
			c.Edges = append(c.Edges, Edge(e))
		}
		callbacks = append(callbacks, c)
	}
	return callbacks
}
