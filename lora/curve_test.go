package lora

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

func TestTheChartFallsWithTheLoss(t *testing.T) {
	got := Chart([]float64{4, 3, 2, 1}, 4, 4)
	want := strings.Join([]string{
		"    4.00 │•",
		"         │ •",
		"         │  •",
		"    1.00 │   •",
		"         └────",
		"          loss from 4.00 to 1.00 in 4 steps",
		"",
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, losses := range [][]float64{nil, {1}, {2, 2, 2}} {
		_ = Chart(losses, 10, 3) // what does not fall is drawn, too
	}
}

func TestTheCurveIsAPictureThatSaysWhatItShows(t *testing.T) {
	var losses []float64
	for i := range 300 {
		losses = append(losses, 3*math.Exp(-float64(i)/100)+1)
	}
	var b strings.Builder
	if err := WriteSVG(&b, losses, `a<b & "c"`); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader(b.String()))
	label := ""
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, &b)
		}
		if e, ok := token.(xml.StartElement); ok {
			for _, a := range e.Attr {
				if a.Name.Local == "aria-label" {
					label = a.Value
				}
			}
		}
	}
	if want := `a<b & "c": the loss went from 3.956 to 1.153 nats a token in 300 steps`; label != want {
		t.Errorf("it says %q, want %q", label, want)
	}
}
