package job

import (
	"math"
	"slices"
	"sort"
)

// maxPoints bounds a curve: more are not seen, and would have to be kept and sent.
const maxPoints = 1000

// Curve is the course of the loss, in the order of the steps.
type Curve []Point

// Point is the loss of a step.
type Point struct {
	Step int     `json:"step"`
	Loss float64 `json:"loss"`
}

// add takes the loss of a step. A training that went on from an earlier step tells of some a second time, so later points
// are dropped. When there are too many, every second one goes: which are left depends on how far the training is alone, so
// the curve ends the same however often it was interrupted.
func (c Curve) add(p Progress) Curve {
	from := sort.Search(len(c), func(i int) bool { return c[i].Step >= p.Step })
	c = c[:from]
	every := 1
	for p.Step/every > maxPoints {
		every *= 2
	}
	kept := func(step int) bool { return step == 1 || step == p.Steps || step%every == 0 }
	if len(c) >= maxPoints {
		c = slices.DeleteFunc(c, func(p Point) bool { return !kept(p.Step) })
	}
	if p.Step < 1 || !kept(p.Step) || math.IsNaN(p.Loss) || math.IsInf(p.Loss, 0) {
		return c
	}
	return append(c, Point{p.Step, p.Loss})
}
