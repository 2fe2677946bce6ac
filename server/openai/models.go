package openai

import (
	"net/http"

	"github.com/centram/centram"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

type modelObject struct {
	ID      string    `json:"id"`
	Object  string    `json:"object"`
	Created int64     `json:"created"`
	OwnedBy string    `json:"owned_by"`
	Parent  string    `json:"parent,omitempty"` // the model itself, if this is it with adapters
	Meta    modelMeta `json:"meta"`
}

// modelMeta has llama.cpp's names.
type modelMeta struct {
	TrainContext int    `json:"n_ctx_train"`
	Embedding    int    `json:"n_embd"`
	Parameters   uint64 `json:"n_params"`
	Size         int64  `json:"size"`
}

func objectOf(m models.Model) modelObject {
	o := modelObject{
		ID: m.Name, Object: "model", OwnedBy: "centram", Parent: m.Base,
		Meta: modelMeta{m.Context, m.Embedding, m.Parameters, m.SizeBytes},
	}
	if !m.ImportedAt.IsZero() {
		o.Created = m.ImportedAt.Unix()
	}
	return o
}

func (h *handler) models(c echo.Context) error {
	list, err := h.Models.Choices(c.Request().Context())
	if err != nil {
		return err
	}
	data := []modelObject{} // an empty list is [] and not null
	for _, m := range list {
		if m.State == models.Ready {
			data = append(data, objectOf(m))
		}
	}
	return wire.JSON(c, http.StatusOK, struct {
		Object string        `json:"object"`
		Data   []modelObject `json:"data"`
	}{"list", data})
}

func (h *handler) model(c echo.Context) error {
	name, err := pathTail(c)
	if err != nil || name == "" {
		return centram.Errorf(centram.NotFound, "The path does not name a model.")
	}
	m, err := h.Models.Get(c.Request().Context(), name)
	if err != nil {
		return wire.AtParam(err, "model")
	}
	if m.State != models.Ready {
		return wire.AtParam(centram.Errorf(centram.NotFound, "The file of the model %q cannot be used.", name), "model")
	}
	return wire.JSON(c, http.StatusOK, objectOf(m))
}
