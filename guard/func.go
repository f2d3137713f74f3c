package guard

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Function allows when a function does; see [Func].
type Function struct {
	name  string
	allow func(ctx context.Context) (ok bool, reason string, err error)
}

// Func makes a guard of a function. A false answer should say why; an error
// blocks as well. The function may be called concurrently and should respect ctx.
func Func(name string, allow func(ctx context.Context) (ok bool, reason string, err error)) (*Function, error) {
	if name = strings.TrimSpace(name); name == "" {
		return nil, errors.New("function guard: the name is empty")
	}
	if allow == nil {
		return nil, fmt.Errorf("function guard %q: the function is nil", name)
	}
	return &Function{name: name, allow: allow}, nil
}

// Name is the name given to [Func].
func (g *Function) Name() string { return g.name }

// Allow calls the function.
func (g *Function) Allow(ctx context.Context) (ok bool, reason string, err error) {
	ok, reason, err = g.allow(ctx)
	if !ok && reason == "" && err == nil {
		reason = fmt.Sprintf("%s does not allow it", g.name)
	}
	return ok, reason, err
}
