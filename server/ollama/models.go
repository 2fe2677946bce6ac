package ollama

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

const latest = ":latest"

// find looks a model up under the name that a client gave it, with or without ":latest".
func (h *handler) find(ctx context.Context, name string) (models.Model, error) {
	if name == "" {
		return models.Model{}, wire.Invalid("model", "\"model\" is required.")
	}
	m, err := h.Models.Get(ctx, name)
	if centram.CodeOf(err) != centram.NotFound {
		return m, err
	}
	other, tagged := strings.CutSuffix(name, latest)
	if !tagged {
		other = name + latest
	}
	if m, otherErr := h.Models.Get(ctx, other); centram.CodeOf(otherErr) != centram.NotFound {
		return m, otherErr
	}
	return models.Model{}, err // about the name that the client knows
}

// tagged is a name as Ollama lists it. Clients take it apart at the colon, or add ":latest" before they compare.
func tagged(name string) string {
	if strings.Contains(name, ":") {
		return name
	}
	return name + latest
}

// stamp has an offset and a fraction of six digits, for clients whose parsers know neither Z nor nine of them.
type stamp time.Time

func (s stamp) MarshalText() ([]byte, error) {
	return []byte(time.Time(s).UTC().Format("2006-01-02T15:04:05.000000-07:00")), nil
}

type listed struct {
	Name   string  `json:"name"`
	Model  string  `json:"model"`
	Size   int64   `json:"size"`
	Digest string  `json:"digest"`
	Detail details `json:"details"`
}

type details struct {
	ParentModel       string   `json:"parent_model"`
	Format            string   `json:"format"`
	Family            string   `json:"family"`
	Families          []string `json:"families"`
	ParameterSize     string   `json:"parameter_size"`
	QuantizationLevel string   `json:"quantization_level"`
}

func listedOf(m models.Model) listed {
	return listed{tagged(m.Name), tagged(m.Name), m.SizeBytes, digestOf(m), detailsOf(m)}
}

// digestOf is zeros while the digest is not known: clients cut the first twelve digits off without looking.
func digestOf(m models.Model) string {
	if m.Digest == "" {
		return strings.Repeat("0", 64)
	}
	return m.Digest
}

func detailsOf(m models.Model) details {
	return details{
		ParentModel:       m.Base,
		Format:            "gguf",
		Family:            m.Architecture,
		Families:          []string{m.Architecture},
		ParameterSize:     parameterSize(m.Parameters),
		QuantizationLevel: m.Quantization,
	}
}

func parameterSize(n uint64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1fB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2fM", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.2fK", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}

func (h *handler) tags(c echo.Context) error {
	type tag struct {
		listed
		Modified stamp `json:"modified_at"`
	}
	list, err := h.Models.Choices(c.Request().Context())
	if err != nil {
		return err
	}
	out := []tag{}
	for _, m := range list {
		if m.State == models.Ready {
			out = append(out, tag{listedOf(m), stamp(m.ImportedAt)})
		}
	}
	return wire.JSON(c, http.StatusOK, struct {
		Models []tag `json:"models"`
	}{out})
}

func (h *handler) ps(c echo.Context) error {
	type running struct {
		listed
		Expires stamp  `json:"expires_at"`
		VRAM    uint64 `json:"size_vram"`
		Context int    `json:"context_length"`
	}
	out := []running{}
	for _, r := range h.Engine.Resident() {
		if r.Loading < 1 {
			continue
		}
		m, err := h.Models.Get(c.Request().Context(), r.Name)
		if centram.CodeOf(err) == centram.NotFound {
			m = models.Model{Name: r.Name, Architecture: r.Info.Architecture, Parameters: r.Info.Parameters} // taken off the list, still answering
		} else if err != nil {
			return err
		}
		row := running{listedOf(m), stamp(h.expiry(r)), 0, r.Info.Context}
		row.Size = int64(min(r.MemoryBytes, math.MaxInt64))
		if r.Info.GPU {
			row.VRAM = r.MemoryBytes
		}
		out = append(out, row)
	}
	return wire.JSON(c, http.StatusOK, struct {
		Models []running `json:"models"`
	}{out})
}

// expiry is when a model goes. Clients know "never" as a time centuries away.
func (h *handler) expiry(r engine.Resident) time.Time {
	if r.ExpiresAt.IsZero() {
		return h.Now().Add(math.MaxInt64)
	}
	return r.ExpiresAt
}

type showAnswer struct {
	License      string         `json:"license,omitempty"`
	Modelfile    string         `json:"modelfile"`
	Parameters   string         `json:"parameters,omitempty"`
	Template     string         `json:"template"`
	Details      details        `json:"details"`
	ModelInfo    map[string]any `json:"model_info"`
	Capabilities []string       `json:"capabilities"`
	Modified     stamp          `json:"modified_at"`
}

func (h *handler) show(c echo.Context) error {
	var r struct {
		Model string `json:"model"`
		Name  string `json:"name"` // what older clients call it
	}
	if err := wire.Decode(c, &r); err != nil {
		return err
	}
	name := r.Model
	if name == "" {
		name = r.Name
	}
	m, err := h.find(c.Request().Context(), name)
	if err != nil {
		return err
	}
	return wire.JSON(c, http.StatusOK, showAnswer{
		License:      m.License,
		Modelfile:    modelfile(m),
		Parameters:   h.parameters(m),
		Template:     m.Template,
		Details:      detailsOf(m),
		ModelInfo:    modelInfo(m),
		Capabilities: capabilities(m),
		Modified:     stamp(m.ImportedAt),
	})
}

// modelfile is for people who look. The path is left out: it is no business of a client on another machine.
func modelfile(m models.Model) string {
	text := fmt.Sprintf("# %s, kept by Centram\nFROM %s\n", m.Name, filepath.Base(m.Path))
	for _, a := range m.Adapters {
		text += "ADAPTER " + filepath.Base(a.Path) + "\n"
	}
	return text
}

// parameters says num_ctx of a loaded model only. Clients take it for the context to ask for, and what the model was
// trained for may be more than it gets.
func (h *handler) parameters(m models.Model) string {
	if n := h.loadedContext(m.Alone()); n > 0 {
		return fmt.Sprintf("num_ctx %d", n)
	}
	return ""
}

// loadedContext is 0 if the model is not loaded.
func (h *handler) loadedContext(name string) int {
	for _, r := range h.Engine.Resident() {
		if r.Name == name && r.Loading >= 1 {
			return r.Info.Context
		}
	}
	return 0
}

func modelInfo(m models.Model) map[string]any {
	return map[string]any{
		"general.architecture":               m.Architecture,
		"general.basename":                   m.Name,
		"general.parameter_count":            m.Parameters,
		m.Architecture + ".block_count":      m.Layers,
		m.Architecture + ".context_length":   m.Context,
		m.Architecture + ".embedding_length": m.Embedding,
	}
}

func capabilities(m models.Model) []string {
	if m.ChatTemplate && strings.Contains(m.Template, "tools") {
		return []string{"completion", "tools"}
	}
	return []string{"completion"}
}
