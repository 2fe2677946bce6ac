package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/lora"
	"github.com/spf13/pflag"
)

// privateFlags adds the flags of a private training.
func privateFlags(flags *pflag.FlagSet, p *lora.Private) {
	flags.Float64Var(&p.Epsilon, "dp-epsilon", 0, "train so that the adapter tells little of any one document: differentially private with this `epsilon`, such as 4")
	flags.Float64Var(&p.Delta, "dp-delta", 0, "the `chance` that is left for more than that (a tenth of one over the number of documents, 1e-5 at most)")
	flags.Float64Var(&p.Clip, "dp-clip", 0, "the `length` that a document's gradient is cut to (0.1)")
	flags.Float64Var(&p.Budget, "dp-budget", 0, "the `epsilon` of all private trainings on a document together (8)")
}

// ledgerFor names the file that remembers what was spent on all data.
func (a *app) ledgerFor(p *lora.Private) error {
	if p.Epsilon == 0 {
		return nil
	}
	if err := os.MkdirAll(a.cfg.Data, 0o700); err != nil {
		return centram.Errorf(centram.Forbidden, "The data directory %s cannot be made: %w", a.cfg.Data, err).
			WithHint("Choose another one with: centram config set data PATH")
	}
	p.Ledger = filepath.Join(a.cfg.Data, "privacy.json")
	return nil
}

// privateText says what a private training will do, before it does.
func privateText(p *lora.Privacy) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("private: epsilon %.3g at delta %.1g, by noise of %.2f times the clipping length %.3g; each of %s takes part in %.1f %% of the steps; of a budget of %.3g, %.3g are spent\n",
		p.Planned, p.Delta, p.Sigma, p.Clip, plural(p.Documents, "document"), 100*p.Rate, p.Budget, p.Spent)
}

// private says what a private training has told.
func (a *app) private(p *lora.Privacy) {
	if p == nil {
		return
	}
	a.hint("What the adapter tells of any one document is bounded by epsilon %.3g at delta %.1g; of these documents' budget of %.3g, %.3g are spent.", p.Epsilon, p.Delta, p.Budget, p.Spent)
	a.hint("The losses are exact, and not covered by that: they are for who has the data.")
}

// privateClaim says what an adapter claims of its privacy. A claim that is wrong is no reason not to show the rest.
func privateClaim(path string) (text string, claim *lora.Claim, err error) {
	f, err := gguf.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	c, err := lora.ReadClaim(f)
	switch {
	case err != nil:
		return "not as it says: " + err.Error(), nil, nil
	case c == nil:
		return "no: it may tell anything of what it was trained on", nil, nil
	}
	return fmt.Sprintf("it says so: epsilon %.3g at delta %.1g for each document", c.Epsilon, c.Delta), c, nil
}
