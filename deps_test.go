package centram

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed says which of our packages each may import, and why the list is as short as it is.
var allowed = map[string]struct {
	imports []string
	why     string
}{
	"":                  {nil, "the shared words stand below everything"},
	"atomicfile":        {nil, "files, whatever is in them"},
	"llama":             {[]string{"llama/shim"}, "the binding knows llama.cpp and nothing of ours"},
	"llama/shim":        {nil, "C++ only"},
	"gguf":              {[]string{""}, "files are read without llama.cpp, since they may be hostile"},
	"hf":                {[]string{"", "gguf"}, "what foreign folders have in common, be they of models or adapters"},
	"engine":            {[]string{""}, "no cgo, so that the scheduler is tested in milliseconds"},
	"engine/local":      {[]string{"", "engine", "gguf", "llama"}, "llama as a Runner"},
	"store":             {[]string{""}, "SQLite and migrations only"},
	"models":            {[]string{"", "atomicfile", "gguf", "store"}, "the library of files does not know who runs them"},
	"models/catalogue":  {[]string{""}, "a list"},
	"models/hub":        {[]string{""}, "a server of others: what is done with its files does not matter"},
	"models/download":   {[]string{"", "atomicfile", "gguf", "models", "models/catalogue", "models/hub"}, "files and where they come from: who runs them is above"},
	"models/convert":    {[]string{"", "gguf", "hf"}, "folders to files: no model is run, and no list of models is known"},
	"models/toy":        {nil, "a file in the program"},
	"experiments/toy":   {[]string{"", "gguf", "llama", "lora"}, "makes the file of models/toy, and asks it something"},
	"chats":             {[]string{"", "store"}, "conversations do not know who answers them"},
	"identity":          {[]string{"", "atomicfile"}, "keys do not know who uses them"},
	"p2p":               {[]string{"", "p2p/blob", "p2p/rbsr", "p2p/wire"}, "the network does not know what its services are for"},
	"p2p/gossip":        {[]string{"", "p2p", "p2p/rbsr", "p2p/wire"}, "records, whatever they say"},
	"p2p/blob":          {[]string{"", "atomicfile", "p2p/wire"}, "files and plans, no network"},
	"p2p/rbsr":          {nil, "a pure function over sets of ids"},
	"p2p/transfer":      {[]string{"", "p2p", "p2p/blob", "p2p/wire"}, "blobs, whatever is in them"},
	"p2p/wire":          {[]string{""}, "pure functions over bytes"},
	"config":            {[]string{"", "atomicfile"}, "settings are read in one place and handed down"},
	"hyperlink":         {[]string{"", "engine", "p2p", "p2p/wire"}, "layers on several machines, whatever computes them: no cgo"},
	"hyperlink/pool":    {[]string{"", "engine", "gguf", "hyperlink", "hyperlink/plan", "hyperlink/weights", "p2p", "p2p/gossip", "p2p/wire"}, "who computes for whom: it knows the parts and none knows it"},
	"hyperlink/weights": {[]string{"", "atomicfile", "gguf", "p2p/blob", "p2p/wire"}, "files of layers, whoever asks for them"},
	"hyperlink/plan":    {[]string{""}, "a pure function of what was measured"},
	"lora":              {[]string{"", "gguf", "llama", "lora/dataset", "lora/dp"}, "a run of training: the parts are below, and who wants one is above"},
	"lora/dataset":      {[]string{""}, "files to tokens: what a tokenizer is, it says itself"},
	"lora/peft":         {[]string{"", "atomicfile", "gguf", "hf"}, "a foreign format and ours: no model is run"},
	"lora/job":          {[]string{"", "process"}, "processes and files: what a training does, another program does"},
	"process":           {nil, "the operating system's priorities"},
	"quantize":          {[]string{"", "gguf", "llama", "process"}, "files to files: the list of models is for who wants one made"},
	"lora/dp":           {[]string{""}, "arithmetic and dice: what is trained does not matter"},
	"server":            {[]string{"", "chats", "engine", "identity", "lora/job", "models", "models/catalogue", "models/download", "p2p", "p2p/blob", "p2p/wire", "server/web", "server/wire", "store"}, "what it needs of others are interfaces in its own files, over their plain types"},
	"server/openai":     {[]string{"", "engine", "models", "server/wire"}, "a wire format over the engine"},
	"server/ollama":     {[]string{"", "engine", "models", "server/wire"}, "a wire format over the engine"},
	"server/wire":       {[]string{"", "engine", "models"}, "what both wire formats read alike"},
	"server/web":        {nil, "the embedded pages"},
	"build/e2e":         {[]string{"gguf", "models/catalogue", "models/hub/hubtest"}, "starts the built program, a hub and a browser"},
	"build/bench":       {[]string{"", "engine", "engine/local", "gguf", "hyperlink", "llama", "models/catalogue", "models/download", "models/hub", "p2p", "p2p/blob", "p2p/transfer", "p2p/wire"}, "a measuring program"},
}

func TestImportsPointOneWay(t *testing.T) {
	const module = "github.com/centram/centram"
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(strings.TrimPrefix(fields[0], module), "/")
		if strings.HasPrefix(pkg, "cmd/") || strings.HasSuffix(pkg, "test") {
			continue // the composition root, and helpers of tests
		}
		rule, ok := allowed[pkg]
		if !ok {
			t.Errorf("%s is in no row of the table: add it, with what it may import and why", pkg)
			continue
		}
		for _, imp := range fields[1:] {
			rest, ours := strings.CutPrefix(imp, module)
			if ours && !slices.Contains(rule.imports, strings.TrimPrefix(rest, "/")) {
				t.Errorf("%s imports %s, but %s", pkg, imp, rule.why)
			}
		}
	}
}
