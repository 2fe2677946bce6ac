package download

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/hub"
)

// Orders turns what people ask for into models to be downloaded.
type Orders struct {
	Catalogue *catalogue.Catalogue
	Hub       *hub.Hub
	Refreshed string // file in which is what the hub has newer than the list that comes with Centram; part of Catalogue
	Licenses  string // file in which the licences are that the owner has agreed to, a line each
}

// Take finds a model by its name in the catalogue, or by OWNER/REPO/FILE.gguf on the hub. With accept the owner agrees to its
// licence, once for all models that have it. It fails with centram.Forbidden, and Details that describe the licence, if it is
// one to be agreed to and was not; with centram.NotFound; with centram.Unsupported if the model cannot be run; and as
// hub.Hub.Head does.
func (o Orders) Take(ctx context.Context, name string, accept bool) (Model, error) {
	if IsAddress(name) {
		return Ask(ctx, o.Hub, name)
	}
	e, err := o.Catalogue.Find(name)
	if err != nil {
		return Model{}, err
	}
	m, err := Of(e)
	if err != nil {
		return Model{}, err
	}
	l := o.Catalogue.License(e)
	agreed, err := o.Agreed(l)
	if err != nil || agreed {
		return m, err
	}
	if !accept {
		err := centram.Errorf(centram.Forbidden, "%s is given under the %s, by which it must not be used to earn money.", e.Title, l.Title).
			WithHint("Read it: %s. If you agree: centram model download %s --accept-license", l.URL, e.Name)
		err.Details = map[string]any{"license": l}
		return Model{}, err
	}
	return m, o.agree(l)
}

// Agreed says whether a licence needs no agreement, or has it.
func (o Orders) Agreed(l catalogue.License) (bool, error) {
	if l.Commercial {
		return true, nil
	}
	b, err := os.ReadFile(o.Licenses)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read which licences were agreed to: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if id, _, _ := strings.Cut(strings.TrimSpace(line), " "); id == l.ID {
			return true, nil
		}
	}
	return false, nil
}

func (o Orders) agree(l catalogue.License) error {
	if err := os.MkdirAll(filepath.Dir(o.Licenses), 0o700); err != nil {
		return explain(err)
	}
	f, err := os.OpenFile(o.Licenses, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return explain(err)
	}
	_, err = fmt.Fprintf(f, "%s agreed to at %s: %s, %s\n", l.ID, time.Now().UTC().Format(time.RFC3339), l.Title, l.URL)
	return explain(errors.Join(err, f.Close()))
}

// Offer is an entry of the catalogue with what has to be known before it is ordered.
type Offer struct {
	catalogue.Entry
	License catalogue.License
	Agreed  bool
}

// Offers are the entries in which all of the words occur.
func (o Orders) Offers(words ...string) ([]Offer, error) {
	var out []Offer
	for _, e := range o.Catalogue.Search(words...) {
		l := o.Catalogue.License(e)
		agreed, err := o.Agreed(l)
		if err != nil {
			return nil, err
		}
		out = append(out, Offer{e, l, agreed})
	}
	return out, nil
}
