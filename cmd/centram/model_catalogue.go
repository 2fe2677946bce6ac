package main

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/models"
	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/download"
	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

func (a *app) searchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "search [WORD...]", Short: "List the models that can be downloaded",
		Long: "List the models that can be downloaded. More can be described in catalogue.json beside the settings file.",
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		orders, err := a.newOrders()
		if err != nil {
			return err
		}
		offers, err := orders.Offers(args...)
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(map[string]any{"models": offers})
		}
		if len(offers) == 0 {
			a.hint("Nothing has these words. See all with: centram model search")
			return nil
		}
		rows := [][]string{{"NAME", "FOR", "PARAMETERS", "SIZE", "MEMORY", "LICENSE"}}
		for _, o := range offers {
			license := o.License.Title
			if !o.License.Commercial {
				license += " (not to earn money)"
			}
			if o.Unsupported != "" {
				license = "cannot be run: " + o.Unsupported
			}
			rows = append(rows, []string{o.Name, string(o.Kind), o.Parameters, bytesText(o.Bytes()), bytesText(o.Memory(8192)), license})
		}
		return table(a.out, rows)
	}
	return cmd
}

func (a *app) completeCatalogue(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 || a.start(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := a.catalogue()
	if err == nil {
		for _, e := range c.All() {
			names = append(names, e.Name+"\t"+e.Title)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) updateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "update", Short: "See whether the hub has newer files of the models in the catalogue", Args: cobra.NoArgs,
		Long: `See whether the hub has newer files of the models in the catalogue, and have later downloads get those. Nothing that is
here is changed: a model is replaced by removing it and downloading it again.`,
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		orders, err := a.newOrders()
		if err != nil {
			return err
		}
		news, err := orders.Refresh(cmd.Context())
		if err != nil {
			return err
		}
		rows := [][]string{{"NAME", "HUB"}}
		for _, n := range news {
			says := "the same"
			switch {
			case n.Err != nil:
				says = n.Err.Error()
			case n.Newer:
				says = "newer, " + bytesText(n.Entry.Bytes())
			}
			rows = append(rows, []string{n.Entry.Name, says})
		}
		if *asJSON {
			list := []map[string]string{}
			for _, r := range rows[1:] {
				list = append(list, map[string]string{"name": r[0], "hub": r[1]})
			}
			return a.printJSON(map[string]any{"models": list})
		}
		return table(a.out, rows)
	}
	return cmd
}

func (a *app) verifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify [NAME]", Short: "Check that the files of models are what they were", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeModels,
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l, err := a.ownLibrary(cmd.Context())
		if err != nil {
			return err
		}
		defer l.Close()
		list, err := l.List(cmd.Context())
		if len(args) == 1 {
			var m server.Model
			m, err = l.Get(cmd.Context(), args[0])
			list = []server.Model{m}
		}
		if err != nil {
			return err
		}
		known, err := a.knownHashes()
		if err != nil {
			return err
		}
		return a.verify(cmd.Context(), list, known, *asJSON)
	}
	return cmd
}

// verified is what a file was found to be.
type verified struct {
	Model  string   `json:"model"`
	File   string   `json:"file"`
	SHA256 string   `json:"sha256"`
	Want   []string `json:"want,omitempty"` // of the catalogue, as it came and as it is now
	Error  string   `json:"error,omitempty"`
}

// knownHashes are what files of the catalogue may have, by their names: as it came with Centram, and as it is now.
func (a *app) knownHashes() (map[string][]string, error) {
	out := map[string][]string{}
	for _, load := range []func() (*catalogue.Catalogue, error){func() (*catalogue.Catalogue, error) { return catalogue.Load() }, a.catalogue} {
		list, err := load()
		if err != nil {
			return nil, err
		}
		for _, e := range list.All() {
			for _, f := range e.Files {
				out[f.Name()] = append(out[f.Name()], f.SHA256)
			}
		}
	}
	return out, nil
}

func (a *app) verify(ctx context.Context, list []server.Model, hashes map[string][]string, asJSON bool) error {
	var all []verified
	wrong := 0
	for _, m := range list {
		for _, path := range models.Parts(m.Path) {
			v := verified{Model: m.Name, File: path, Want: hashes[filepath.Base(path)]}
			bar := a.newProgress("Hashing " + filepath.Base(path))
			digest, err := download.Digest(ctx, path, func(done int64) { bar.show(float64(done) / float64(max(m.SizeBytes, 1))) })
			bar.clear()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if v.SHA256 = digest; err != nil {
				v.Error = err.Error()
			}
			if err != nil || len(v.Want) > 0 && !slices.Contains(v.Want, digest) {
				wrong++
			}
			all = append(all, v)
		}
	}
	if asJSON {
		if err := a.printJSON(map[string]any{"files": all}); err != nil {
			return err
		}
	} else if err := table(a.out, verifiedRows(all)); err != nil {
		return err
	}
	if wrong > 0 {
		return centram.Errorf(centram.Invalid, "%s not what it should be.", plural(wrong, "file")+map[bool]string{true: " is", false: " are"}[wrong == 1]).
			WithHint("Remove the model with its file and download it again: centram model rm --file NAME")
	}
	return nil
}

func verifiedRows(all []verified) [][]string {
	rows := [][]string{{"MODEL", "FILE", "SHA-256", "IS"}}
	for _, v := range all {
		is := "not in the catalogue"
		switch {
		case v.Error != "":
			is = v.Error
		case slices.Contains(v.Want, v.SHA256):
			is = "right"
		case len(v.Want) > 0:
			is = "WRONG"
		}
		rows = append(rows, []string{v.Model, filepath.Base(v.File), v.SHA256, is})
	}
	return rows
}
