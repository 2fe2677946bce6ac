package models

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/centram/centram"
)

// A request calls a model by its own name, and behind the last colon perhaps by adapters that are added to it:
//
//	base:notes                with the adapter notes
//	base:notes+style          with both, each as it was trained
//	base:notes@0.5+style@-1   with half of notes, and what style adds taken away
//
// A model whose own name is all of that goes first, as "qwen:7b" may be one.

// Use is an adapter that a name asks for.
type Use struct {
	Name   string
	Path   string
	Digest string  // SHA-256 in hex of the file
	Scale  float32 // 1 is as it was trained
}

// CutAdapters splits a name at its last colon, which is what it means if no model has the whole name.
func CutAdapters(name string) (base, adapters string, ok bool) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 {
		return name, "", false
	}
	return name[:i], name[i+1:], true
}

const (
	maxUses  = 8 // as many as machines that compute together take
	maxScale = 100
)

// validScale has no more digits than are sent to other machines.
var validScale = regexp.MustCompile(`^-?[0-9]{1,3}(\.[0-9]{1,6})?$`)

// parseUses reads what is behind the colon: names with scales, of files that are still to be found.
func parseUses(text string) ([]Use, error) {
	var uses []Use
	for _, part := range strings.Split(text, "+") {
		name, number, scaled := strings.Cut(part, "@")
		u := Use{Name: name, Scale: 1}
		if !fitAdapterName(name) {
			return nil, fmt.Errorf("%q cannot be the name of an adapter", name)
		}
		if slices.ContainsFunc(uses, func(o Use) bool { return o.Name == name }) {
			return nil, fmt.Errorf("%s is named twice, where %s@2 would do", name, name)
		}
		if scaled {
			x, err := strconv.ParseFloat(number, 32)
			if err != nil || !validScale.MatchString(number) || x == 0 || math.Abs(x) > maxScale {
				return nil, fmt.Errorf("%q is no scale: it is a number such as 0.5, at most %d, with at most six digits behind the point, and not 0", number, maxScale)
			}
			u.Scale = float32(x)
		}
		uses = append(uses, u)
	}
	if len(uses) > maxUses {
		return nil, fmt.Errorf("these are %d adapters, of which %d may be added at most", len(uses), maxUses)
	}
	return uses, nil
}

// formatUses is what parseUses reads.
func formatUses(uses []Use) string {
	parts := make([]string, len(uses))
	for i, u := range uses {
		parts[i] = u.Name
		if u.Scale != 1 {
			parts[i] += "@" + strconv.FormatFloat(float64(u.Scale), 'f', -1, 32)
		}
	}
	return strings.Join(parts, "+")
}

// Alone is the name of the model itself, whatever adapters it was asked for with.
func (m Model) Alone() string {
	if m.Base != "" {
		return m.Base
	}
	return m.Name
}

// called finds what a name means: a model, or one with adapters. It wants mu held.
func (l *Library) called(ctx context.Context, name string) (Model, error) {
	m, unknown := l.get(ctx, name)
	if centram.CodeOf(unknown) != centram.NotFound {
		return m, unknown
	}
	base, text, ok := CutAdapters(canonical(name))
	if !ok {
		return Model{}, unknown
	}
	m, err := l.get(ctx, base)
	if centram.CodeOf(err) == centram.NotFound {
		if a, err := l.adapterBy(ctx, canonical(base), text); err == nil {
			return Model{}, a.orphaned()
		}
		return Model{}, unknown // about the name that the client knows
	}
	if err != nil {
		return Model{}, err
	}
	uses, err := parseUses(text)
	if err != nil {
		return Model{}, atModel(centram.Errorf(centram.Invalid, "%q does not say which adapters of %s are meant: %w.", text, m.Name, err).
			WithHint("%s", l.whichAdapters(ctx, m.Name)))
	}
	return l.with(ctx, m, uses)
}

// with is m with adapters. If one of them cannot be used, neither can the whole.
func (l *Library) with(ctx context.Context, m Model, uses []Use) (Model, error) {
	for _, u := range uses {
		a, err := l.adapter(ctx, &m, m.Name, u.Name)
		if err != nil {
			return Model{}, err
		}
		m.add(a, u.Scale)
	}
	m.Base, m.Name = m.Name, m.Name+":"+formatUses(m.Adapters)
	return m, nil
}

// add puts one more adapter on m.
func (m *Model) add(a Adapter, scale float32) {
	m.Adapters = append(m.Adapters, Use{a.Name, a.Path, a.Digest, scale})
	m.SizeBytes += a.SizeBytes
	if m.Err == nil && a.Err != nil {
		m.State, m.Err = a.State, a.Err
	}
}

// whichAdapters is a hint: what there is to choose from.
func (l *Library) whichAdapters(ctx context.Context, base string) string {
	list, err := l.adaptersOf(ctx, base)
	if err != nil || len(list) == 0 {
		return fmt.Sprintf("%s has no adapters. Add one with: centram lora apply FILE --model %s", base, base)
	}
	names := make([]string, len(list))
	for i, a := range list {
		names[i] = a.Name
	}
	return fmt.Sprintf("%s has these: %s. Name them as in %s:%s, several as in a+b, and parts of them as in a@0.5.",
		base, strings.Join(names, ", "), base, names[0])
}

func atModel(e *centram.Error) error {
	e.Details = map[string]any{"param": "model"}
	return e
}
