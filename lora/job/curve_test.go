package job

import (
	"math"
	"slices"
	"testing"
)

func TestTheCurveIsTheSameHoweverOftenTheTrainingWasInterrupted(t *testing.T) {
	const steps = 5003
	loss := func(step int) float64 { return 3 + math.Sin(float64(step)) }
	var straight, disturbed Curve
	for step := 1; step <= steps; step++ {
		straight = straight.add(Progress{Step: step, Steps: steps, Loss: loss(step)})
		if step == 700 {
			if len(straight) != 700 {
				t.Errorf("got %d points after 700 steps, want all", len(straight))
			}
		}
		if len(straight) > maxPoints+2 {
			t.Fatalf("got %d points at step %d", len(straight), step)
		}
	}
	for _, part := range [][2]int{{1, 990}, {950, 1100}, {900, 2500}, {1, 3}, {2, steps}} {
		for step := part[0]; step <= part[1]; step++ {
			disturbed = disturbed.add(Progress{Step: step, Steps: steps, Loss: loss(step)})
		}
	}
	if !slices.Equal(straight, disturbed) {
		t.Errorf("got %d points, and %d undisturbed", len(disturbed), len(straight))
	}
	first, last := straight[0], straight[len(straight)-1]
	if first != (Point{1, loss(1)}) || last != (Point{steps, loss(steps)}) {
		t.Errorf("got a curve from %v to %v", first, last)
	}
	if c := straight.add(Progress{Step: steps + 1, Steps: steps + 1, Loss: math.NaN()}); len(c) != len(straight) {
		t.Error("what is no number is in the curve, and could not be written as JSON")
	}
}
