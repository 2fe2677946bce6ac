package job

import (
	"math"
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
// are dropped. Of a long training only each so many-th step is kept, which depends on how many there are alone: so the
// curve is the same however often the training was interrupted.
func (c Curve) add(p Progress) Curve {
	from := sort.Search(len(c), func(i int) bool { return c[i].Step >= p.Step })
	c = c[:from]
	every := max((p.Steps+maxPoints-1)/maxPoints, 1)
	if p.Step < 1 || p.Step%every != 0 && p.Step != 1 && p.Step != p.Steps || math.IsNaN(p.Loss) || math.IsInf(p.Loss, 0) {
		return c
	}
	return append(c, Point{p.Step, p.Loss})
}
