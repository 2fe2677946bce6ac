package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"

	"github.com/centram/centram/config"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server"
)

// adapterFolder is where the adapters lie that Centram makes itself.
func adapterFolder(cfg *config.Config) string { return filepath.Join(cfg.Data, "adapters") }

// scales puts the adapters of a name into the words of the engine.
func scales(uses []models.Use) []engine.AdapterScale {
	var out []engine.AdapterScale
	for _, u := range uses {
		out = append(out, engine.AdapterScale{Path: u.Path, Scale: u.Scale, Digest: u.Digest})
	}
	return out
}

func (l remoteLibrary) Adapters(ctx context.Context, base string) ([]server.Adapter, error) {
	var list struct {
		Adapters []server.Adapter `json:"adapters"`
	}
	err := l.do(ctx, http.MethodGet, "/api/v1/adapters?base="+url.QueryEscape(base), nil, &list)
	return list.Adapters, err
}

func (l remoteLibrary) AddAdapter(ctx context.Context, d models.AdapterDraft) (a server.Adapter, err error) {
	body := map[string]any{"path": d.Path, "base": d.Base, "name": d.Name}
	if len(d.About) > 0 {
		body["about"] = d.About
	}
	err = l.do(ctx, http.MethodPost, "/api/v1/adapters", body, &a)
	return a, err
}

func (l remoteLibrary) RemoveAdapter(ctx context.Context, base, name string, file bool) error {
	path := fmt.Sprintf("/api/v1/adapters/%s/%s?file=%t", url.PathEscape(base), url.PathEscape(name), file)
	return l.do(ctx, http.MethodDelete, path, nil, nil)
}

func (l *ownLibrary) Adapters(ctx context.Context, base string) ([]server.Adapter, error) {
	list, err := l.library.Adapters(ctx, base)
	out := make([]server.Adapter, len(list))
	for i, a := range list {
		out[i] = server.DescribeAdapter(a)
	}
	return out, err
}

func (l *ownLibrary) AddAdapter(ctx context.Context, d models.AdapterDraft) (server.Adapter, error) {
	a, err := l.library.AddAdapter(ctx, d)
	if err != nil {
		return server.Adapter{}, err
	}
	return server.DescribeAdapter(a), nil
}

func (l *ownLibrary) RemoveAdapter(ctx context.Context, base, name string, file bool) error {
	return l.library.RemoveAdapter(ctx, base, name, file)
}
