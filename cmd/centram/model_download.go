package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/models/download"
	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

func (a *app) downloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "download NAME | OWNER/REPO/FILE.gguf[@REVISION]", Aliases: []string{"pull"}, Short: "Download a model", Args: cobra.ExactArgs(1),
		Long: `Download a model of the catalogue, or a file of Hugging Face. What has come stays if it is interrupted, and the same
command goes on with it. HF_TOKEN, HF_ENDPOINT, HF_HUB_CACHE and HTTPS_PROXY mean what they do elsewhere.`,
		ValidArgsFunction: a.completeCatalogue,
	}
	accept := cmd.Flags().Bool("accept-license", false, "agree to the model's license")
	layers := cmd.Flags().String("layers", "", "get only these `layers`, such as 0-11, into a file of their own, for experiments with parts of models")
	out := cmd.Flags().String("out", "", "`file` for the layers (NAME-layers-FIRST-LAST.gguf)")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if *layers != "" {
			return a.downloadLayers(ctx, args[0], *layers, *out, *accept)
		}
		return a.download(ctx, args[0], *accept, *asJSON)
	}
	return cmd
}

// download has the daemon download a model, if there is one, or does it itself. A person is asked to agree to a licence.
func (a *app) download(ctx context.Context, name string, accept, asJSON bool) error {
	get := a.downloadHere
	c, err := a.ownDaemon(ctx)
	switch {
	case err == nil:
		get = func(ctx context.Context, name string, accept bool, tell func(server.Download)) (string, error) {
			return a.downloadThere(ctx, c, name, accept, tell)
		}
	case !errors.Is(err, errNoDaemon):
		return err
	}
	bar := a.newProgress(name)
	tell := bar.download
	if asJSON {
		tell = func(d server.Download) { _ = a.printJSONLine(d) }
	}
	model, err := get(ctx, name, accept, tell)
	if notAgreed(err) && !accept && terminal(a.in) && !asJSON {
		fmt.Fprintln(a.err, err)
		fmt.Fprintln(a.err, centram.HintOf(err))
		if !a.ask("Do you agree?") {
			return err
		}
		model, err = get(ctx, name, true, tell)
	}
	bar.clear()
	if ctx.Err() != nil {
		return centram.Errorf(centram.Unavailable, "The download was stopped.").
			WithHint("What has come stays. Go on with: centram model download %s", name)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSONLine(map[string]string{"model": model})
	}
	fmt.Fprintln(a.out, model)
	a.hint("Chat with it: centram chat --model %s", model)
	if list, err := a.catalogue(); err == nil && a.cfg.Draft == "" {
		if e, err := list.Find(model); err == nil && e.Draft != "" {
			a.hint("With %s beside it, it may write faster: centram model download %s, and then: centram config set draft %s", e.Draft, e.Draft, e.Draft)
		}
	}
	return nil
}

// downloadLayers gets a range of a model's layers, which is for no list of models: it answers nobody by itself.
func (a *app) downloadLayers(ctx context.Context, name, layers, out string, accept bool) error {
	var r centram.LayerRange
	if n, err := fmt.Sscanf(layers, "%d-%d", &r.First, &r.End); err != nil || n != 2 || r.First < 0 || r.End < r.First {
		return usageError{fmt.Errorf("%q are no layers", layers), "They look like 0-11, the first and the last one."}
	}
	r.End++
	orders, err := a.newOrders()
	if err != nil {
		return err
	}
	m, err := orders.Take(ctx, name, accept)
	if err != nil {
		return err
	}
	if out == "" {
		out = fmt.Sprintf("%s-layers-%s.gguf", m.Name, layers)
	}
	bar, cfg := a.newProgress(fmt.Sprintf("%s, layers %s", m.Name, layers)), a.fetchConfig()
	cfg.Dir = filepath.Join(a.cfg.Models, download.Folder)
	cfg.Tell = func(p download.Progress) { bar.showWith(0, bytesText(p.Done)+" are here") }
	err = m.FetchLayers(ctx, orders.Hub, r, out, cfg)
	bar.clear()
	if err == nil {
		fmt.Fprintln(a.out, out)
	}
	return err
}

// notAgreed says whether a licence has to be agreed to first.
func notAgreed(err error) bool {
	e, ok := errors.AsType[*centram.Error](err)
	return ok && e.Code == centram.Forbidden && e.Details["license"] != nil
}

// downloadHere downloads in this process.
func (a *app) downloadHere(ctx context.Context, name string, accept bool, tell func(server.Download)) (string, error) {
	orders, err := a.newOrders()
	if err != nil {
		return "", err
	}
	m, err := orders.Take(ctx, name, accept)
	if err != nil {
		return "", err
	}
	l, err := a.ownLibrary(ctx)
	if err != nil {
		return "", err
	}
	defer l.Close()
	if have, err := l.library.Resolve(ctx, m.Name); err == nil {
		return have.Name, nil
	}
	cfg, speed := a.fetchConfig(), download.Meter{}
	cfg.Tell = func(p download.Progress) {
		tell(server.Download{
			Name: m.Name, Title: m.Title, State: download.Running, Stage: p.Stage, DoneBytes: p.Done, TotalBytes: p.Total, BytesPerSecond: speed.Add(time.Now(), p.Done),
		})
	}
	path, err := m.Fetch(ctx, orders.Hub, a.cfg.Models, cfg)
	if err != nil {
		return "", err
	}
	return keep(ctx, l.library, path)
}

// downloadThere has the daemon download, and follows it. If this ends first, it is paused.
func (a *app) downloadThere(ctx context.Context, c *client, name string, accept bool, tell func(server.Download)) (string, error) {
	var d server.Download
	err := c.do(ctx, http.MethodPost, "/api/v1/downloads", map[string]any{"model": name, "accept_license": accept}, &d)
	if centram.CodeOf(err) == centram.Conflict {
		err = c.do(ctx, http.MethodGet, "/api/v1/downloads/"+url.PathEscape(name), nil, &d) // it is under way
		if centram.CodeOf(err) == centram.NotFound {
			var m server.Model
			err = c.do(ctx, http.MethodGet, modelPath(name), nil, &m) // it is here
			return m.Name, err
		}
	}
	if err != nil {
		return "", err
	}
	path := "/api/v1/downloads/" + url.PathEscape(d.Name)
	for {
		switch d.State {
		case download.Ready:
			return d.Model, nil
		case download.Failed:
			return "", &centram.Error{Code: d.Error.Code, Message: d.Error.Message, Hint: d.Error.Hint}
		case download.Paused:
			return "", centram.Errorf(centram.Unavailable, "The download was paused.").WithHint("Go on with: centram model download %s", name)
		}
		tell(d)
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return "", errors.Join(ctx.Err(), c.do(context.WithoutCancel(ctx), http.MethodPost, path+"/pause", nil, nil))
		}
		err := c.do(ctx, http.MethodGet, path, nil, &d)
		if centram.CodeOf(err) == centram.NotFound {
			return "", centram.Errorf(centram.Unavailable, "The download was cancelled.")
		}
		if err != nil && ctx.Err() == nil {
			return "", err
		}
	}
}

// download shows how far a download is.
func (p *progress) download(d server.Download) {
	text := string(d.Stage)
	if d.State == download.Queued {
		text = "waiting for others"
	}
	text += fmt.Sprintf(", %s of %s", bytesText(d.DoneBytes), bytesText(d.TotalBytes))
	if d.Stage == download.Downloading && d.BytesPerSecond > 0 {
		left := time.Duration(float64(d.TotalBytes-d.DoneBytes) / d.BytesPerSecond * float64(time.Second))
		text += fmt.Sprintf(", %s/s, %v left", bytesText(int64(d.BytesPerSecond)), left.Round(time.Second))
	}
	p.showWith(float64(d.DoneBytes)/float64(max(d.TotalBytes, 1)), text)
}
