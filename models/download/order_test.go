package download

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/models/catalogue"
)

func TestALicenceThatForbidsToEarnMoneyIsAskedForOnce(t *testing.T) {
	c, err := catalogue.Load()
	if err != nil {
		t.Fatal(err)
	}
	o := Orders{Catalogue: c, Licenses: filepath.Join(t.TempDir(), "data", "licenses")}
	if m, err := o.Take(t.Context(), "qwen2.5-0.5b", false); err != nil || m.Name != "qwen2.5-0.5b" || m.Bytes() != 491400032 {
		t.Errorf("got %+v, %v, want what is free without a question", m, err)
	}
	_, err = o.Take(t.Context(), "qwen2.5-3b", false)
	e, ok := err.(*centram.Error)
	if !ok || e.Code != centram.Forbidden || !strings.Contains(e.Hint, "--accept-license") || e.Details["license"].(catalogue.License).ID != "qwen-research" {
		t.Fatalf("got %v, want to be asked to agree", err)
	}
	for _, ask := range []struct {
		name   string
		accept bool
	}{{"qwen2.5-3b", true}, {"qwen2.5-3b", false}, {"qwen2.5-coder-3b", false}} { // another model with the same licence
		if m, err := o.Take(t.Context(), ask.name, ask.accept); err != nil || m.Name != ask.name {
			t.Errorf("%+v: got %+v, %v", ask, m, err)
		}
	}
	if _, err := o.Take(t.Context(), "qwen2.5-vl-7b", true); centram.CodeOf(err) != centram.Unsupported {
		t.Errorf("got %v, want that it cannot be run", err)
	}
	if _, err := o.Take(t.Context(), "gpt-5", true); centram.CodeOf(err) != centram.NotFound {
		t.Errorf("got %v, want that there is none", err)
	}
	offers, err := o.Offers("research")
	if err != nil || len(offers) != 3 || !offers[0].Agreed {
		t.Errorf("got %+v, %v, want the three with that licence, agreed to", offers, err)
	}
}
