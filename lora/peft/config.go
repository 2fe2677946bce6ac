package peft

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/hf"
)

// config is what an adapter_config.json says that matters here.
type config struct {
	rank      int
	alpha     float32 // in llama.cpp's sense: divided by a matrix's rank it is the scale
	otherRank []int   // that some matrices have instead
	baseModel string
}

const maxConfig = 1 << 20

type refusal struct {
	field, what string
	harmless    []string
}

// refused are the fields that make an adapter more than B A, or another scale of it, with what is harmless to have there.
// In every other field what it says is either in the tensors too or does not matter after training.
var refused = []refusal{
	{"use_dora", "it is a DoRA adapter, which also scales each row of a matrix", []string{"false"}},
	{"use_qalora", "it is a QALoRA adapter", []string{"false"}},
	{"bias", "it has biases", []string{`"none"`}},
	{"lora_bias", "it has biases", []string{"false"}},
	{"modules_to_save", "it replaces whole modules", []string{"[]"}},
	{"alora_invocation_tokens", "it is an activated LoRA, to be switched on by certain tokens", nil},
	{"arrow_config", "it routes between several adapters", nil},
	{"layer_replication", "it repeats layers of the model", []string{"[]"}},
	{"trainable_token_indices", "it replaces rows of the token embedding", []string{"[]", "{}"}},
	{"target_parameters", "it changes parameters that are not modules of their own", []string{"[]"}},
	{"megatron_config", "it was trained with Megatron", nil},
	{"fan_in_fan_out", "its matrices lie the other way", []string{"false"}},
	{
		"init_lora_weights", "its beginning was taken out of the model's own matrices, so it fits only the changed model",
		[]string{"true", "false", `"gaussian"`, `"eva"`, `"orthogonal"`},
	},
	{"task_type", "it is not for generating text", []string{`"CAUSAL_LM"`}},
}

func readConfig(path string) (config, error) {
	f, err := os.Open(path)
	if err != nil {
		return config{}, openError(path, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return config{}, fmt.Errorf("read %s: %w", path, err)
	}
	if len(raw) > maxConfig {
		return config{}, bad("%s is longer than %d bytes", path, maxConfig)
	}
	return parseConfig(path, raw)
}

func parseConfig(path string, raw []byte) (config, error) {
	fields, err := hf.Object(raw)
	if err != nil {
		return config{}, bad("%s %w", path, err).WithHint("It is the file that PEFT's save_pretrained writes.")
	}
	var kind string
	if json.Unmarshal(fields["peft_type"], &kind) != nil || kind != "LORA" {
		return config{}, unsupported("%s is of an adapter of type %.50q, not LORA", path, kind)
	}
	has := func(field string, harmless ...string) bool {
		v, ok := fields[field]
		return ok && string(v) != "null" && !slices.Contains(harmless, strings.Join(strings.Fields(string(v)), ""))
	}
	for _, r := range refused {
		if has(r.field, r.harmless...) {
			return config{}, unsupported("the adapter of %s cannot be imported: %s (%s is %.100s)", path, r.what, r.field, fields[r.field]).
				WithHint("Merge it into the model with PEFT's merge_and_unload and convert that, or train without it.")
		}
	}
	for field := range fields {
		known := field == "use_rslora" || slices.ContainsFunc(refused, func(r refusal) bool { return r.field == field })
		if strings.HasPrefix(field, "use_") && !known && has(field, "false") {
			return config{}, unsupported("the adapter of %s cannot be imported: what %.50q means is not known", path, field)
		}
	}
	return scale(path, fields, has)
}

// scale reads the fields that say how much B A counts for.
func scale(path string, fields map[string]json.RawMessage, has func(string, ...string) bool) (c config, err error) {
	if json.Unmarshal(fields["r"], &c.rank) != nil || c.rank < 1 || c.rank > math.MaxInt32 {
		return c, bad("%s: r has to be a rank of 1 or more, not %.50s", path, fields["r"])
	}
	var alpha float64
	if json.Unmarshal(fields["lora_alpha"], &alpha) != nil || !(alpha > 0) {
		return c, unsupported("%s: lora_alpha has to be more than 0, not %.50s", path, fields["lora_alpha"])
	}
	if has("alpha_pattern", "{}") {
		var pattern map[string]float64
		if err := json.Unmarshal(fields["alpha_pattern"], &pattern); err != nil {
			return c, bad("%s: alpha_pattern: %w", path, err)
		}
		for module, a := range pattern {
			if a != alpha {
				return c, unsupported("%s: alpha_pattern gives %.100q another alpha, but a GGUF adapter has one for all", path, module)
			}
		}
	}
	if has("rank_pattern", "{}") {
		var pattern map[string]int
		if err := json.Unmarshal(fields["rank_pattern"], &pattern); err != nil {
			return c, bad("%s: rank_pattern: %w", path, err)
		}
		for _, r := range pattern {
			c.otherRank = append(c.otherRank, r)
		}
	}
	if has("use_rslora", "false") {
		// alpha/√r is √r·alpha divided by the rank. That is kept if it is exact, as for ranks of 4, 16 or 64.
		root := math.Sqrt(float64(c.rank))
		if root != math.Trunc(root) || c.otherRank != nil {
			return c, unsupported("%s: with use_rslora and a rank of %d, the scale %v/√%d cannot be kept exactly", path, c.rank, alpha, c.rank).
				WithHint("Use a rank that is a square, such as 16 or 64, for all matrices.")
		}
		alpha *= root
	}
	c.alpha = float32(alpha)
	if float64(c.alpha) != alpha {
		return c, unsupported("%s: an alpha of %v cannot be kept exactly in 32 bits", path, alpha)
	}
	// A path of the machine it was trained on is nobody's business.
	if json.Unmarshal(fields["base_model_name_or_path"], &c.baseModel) != nil || !hubName.MatchString(c.baseModel) {
		c.baseModel = ""
	}
	return c, nil
}

// hubName is a name on Hugging Face's hub.
var hubName = regexp.MustCompile(`^\w[\w.-]{0,95}/\w[\w.-]{0,95}$`)

// writtenConfig is the adapter_config.json that is written.
type writtenConfig struct {
	PeftType      string         `json:"peft_type"`
	TaskType      string         `json:"task_type"`
	BaseModel     *string        `json:"base_model_name_or_path"`
	Rank          int            `json:"r"`
	Alpha         json.Number    `json:"lora_alpha"`
	TargetModules []string       `json:"target_modules"`
	RankPattern   map[string]int `json:"rank_pattern"`
	AlphaPattern  map[string]int `json:"alpha_pattern"`
	Bias          string         `json:"bias"`
	Dropout       float64        `json:"lora_dropout"`
	FanInFanOut   bool           `json:"fan_in_fan_out"`
	InferenceMode bool           `json:"inference_mode"`
	InitWeights   bool           `json:"init_lora_weights"`
	UseRslora     bool           `json:"use_rslora"`
	UseDora       bool           `json:"use_dora"`
}

func openError(path string, err error) error {
	if os.IsNotExist(err) {
		e := centram.Errorf(centram.NotFound, "%s does not exist", path).
			WithHint("A PEFT adapter is a folder with %s and %s.", configFile, weightsFile)
		e.Err = err
		return e
	}
	return fmt.Errorf("open %s: %w", path, err)
}
