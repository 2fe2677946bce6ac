// Package toy holds the model that comes with Centram, so that there is somebody to talk to before anything was downloaded.
// experiments/toy makes it, and says of what.
package toy

import _ "embed"

// Name is what the model is called.
const Name = "toy"

// GGUF is the model's file: 842,496 parameters in F16, with a token for each byte, and ChatML.
//
//go:embed toy.gguf
var GGUF []byte
