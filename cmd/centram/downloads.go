package main

import (
	"context"
	"os"
	"path/filepath"

	"golang.org/x/time/rate"

	"github.com/centram/centram/models"
	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/download"
	"github.com/centram/centram/models/hub"
)

// additions is the owner's own catalogue, beside the settings.
func (a *app) additions() string {
	return filepath.Join(filepath.Dir(a.cfg.Paths.File), "catalogue.json")
}

// refreshed is what the hub had newer than the catalogue when it was asked.
func (a *app) refreshed() string { return filepath.Join(a.cfg.Data, "catalogue.json") }

// catalogue is the list of what can be had.
func (a *app) catalogue() (*catalogue.Catalogue, error) {
	return catalogue.Load(a.refreshed(), a.additions())
}

// newOrders has models of the catalogue, and of the hub that the settings and the environment name.
func (a *app) newOrders() (o download.Orders, err error) {
	if o.Catalogue, err = a.catalogue(); err != nil {
		return o, err
	}
	cfg := hub.FromEnvironment(os.LookupEnv)
	if a.cfg.Hub != "" {
		cfg.Endpoint = a.cfg.Hub
	}
	if o.Hub, err = hub.New(cfg); err != nil {
		return o, err
	}
	o.Refreshed, o.Licenses = a.refreshed(), filepath.Join(a.cfg.Data, "licenses")
	return o, nil
}

// fetchConfig is how files are fetched.
func (a *app) fetchConfig() (c download.Config) {
	if n := a.cfg.DownloadRate; n > 0 {
		c.Limit = rate.NewLimiter(rate.Limit(n), int(min(max(n/4, 64<<10), 4<<20)))
	}
	return c
}

// newDownloads has the daemon download models. What is wrong with the settings of the hub does not keep it from all else.
func (d *daemon) newDownloads(changed func(download.Job)) error {
	orders, err := d.app.newOrders()
	if err != nil {
		d.log.Warn("Models cannot be downloaded", "err", err)
		orders.Hub = nil
	}
	fetch := d.app.fetchConfig()
	fetch.Near = d.network.near
	queue, err := download.NewQueue(download.QueueConfig{
		Hub: orders.Hub, Folder: d.app.cfg.Models, Fetch: fetch, Changed: changed, Log: d.log,
		Done: func(ctx context.Context, _ download.Model, path string) (string, error) {
			return keep(ctx, d.models, path)
		},
	})
	if err != nil {
		return err
	}
	if d.downloads = queue; orders.Hub != nil {
		d.orders = &orders
	}
	return nil
}

// keep puts a model that has come into the list. In the folder of models it is noticed by itself, perhaps was already, and so
// has a name.
func keep(ctx context.Context, l *models.Library, path string) (string, error) {
	m, err := l.Import(ctx, path, "")
	return m.Name, err
}
