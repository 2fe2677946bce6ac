package wire

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/centram/centram"
)

func TestFieldsAreNamedAsTheClientKnowsThem(t *testing.T) {
	type common struct {
		Stop Strings `json:"stop"`
		Sampling
	}
	var request struct {
		common
		Options struct {
			Sampling
		} `json:"options"`
	}
	for body, want := range map[string]string{
		`{"temperature":"hot"}`:         `"temperature" must be a number, not string.`,
		`{"options":{"top_k":[]}}`:      `"options.top_k" must be a number, not array.`,
		`{"stop":5}`:                    `"stop" must be an array, not number.`,
		`[]`:                            `The request must be an object, not array.`,
		`{"temperature":1}{`:            `The request is not valid JSON: invalid character '{' after top-level value.`,
		"":                              `The request has no body; a JSON object is expected.`,
		`{"stop":null,"top_k":null}`:    ``,
		`{"unknown":{"temperature":1}}`: ``,
	} {
		got := ""
		if err := Unmarshal([]byte(body), &request); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
}

func TestShortenedVectorsHaveLengthOne(t *testing.T) {
	got, err := Shorten([][]float32{{3, 4, 12}, {0, 0, 1}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(float64(got[0][0])-0.6) > 1e-6 || math.Abs(float64(got[0][1])-0.8) > 1e-6 {
		t.Errorf("got %v, want 0.6 and 0.8", got[0])
	}
	if got[1][0] != 0 || got[1][1] != 0 {
		t.Errorf("got %v of a vector with nothing in it", got[1])
	}
}

func TestTextOfAnInternalErrorStaysInside(t *testing.T) {
	secret := errors.New("open /home/ann/key")
	for _, err := range []error{secret, centram.Errorf(centram.Internal, "it broke: %w", secret), fmt.Errorf("load: %w", secret)} {
		if got := Text(err); got != "Something went wrong inside Centram. Its log says what." {
			t.Errorf("got %q", got)
		}
	}
	public := fmt.Errorf("chat: %w", centram.Errorf(centram.NotFound, "There is no model.").WithHint("Import one."))
	if got := Text(public); got != "There is no model. Import one." {
		t.Errorf("got %q", got)
	}
}
