package wire

import (
	"encoding/json"
	"fmt"

	"github.com/centram/centram/engine"
)

// Tool is a function that the model may call. Both APIs write it in this way.
type Tool struct {
	Type     string `json:"type"`
	Function struct {
		Name        string          `json:"name"`
		Description string          `json:"description"`
		Parameters  json.RawMessage `json:"parameters"`
	} `json:"function"`
}

// Tools returns the tools as the engine knows them. A function without parameters takes an empty object.
func Tools(tools []Tool) ([]engine.Tool, error) {
	var out []engine.Tool
	seen := map[string]bool{}
	for i, t := range tools {
		param := fmt.Sprintf("tools[%d]", i)
		name := t.Function.Name
		switch {
		case t.Type != "" && t.Type != "function":
			return nil, Invalid(param+".type", "Tool %d has the type %q; only \"function\" is known.", i, t.Type)
		case name == "":
			return nil, Invalid(param+".function.name", "Tool %d has no function name.", i)
		case seen[name]:
			return nil, Invalid(param+".function.name", "Two tools have the name %q.", name)
		}
		seen[name] = true
		parameters := t.Function.Parameters
		if IsNull(parameters) {
			parameters = json.RawMessage(`{"type":"object","properties":{}}`)
		}
		if !IsObject(parameters) {
			return nil, Invalid(param+".function.parameters", "The parameters of tool %q must be a JSON schema object.", name)
		}
		out = append(out, engine.Tool{Name: name, Description: t.Function.Description, Parameters: parameters})
	}
	return out, nil
}
