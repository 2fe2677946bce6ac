package main

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hf/hftest"
	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/hub/hubtest"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"centram": main})
}

var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"toy":     makeToy,
	"large":   makeLarge,
	"appears": waitFile,
	"adapter": makeAdapter,
	"folder":  makeFolder,
	"ready":   waitReady,
	"code":    wantCode,
	"number":  wantNumber,
	"field":   takeField,
	"until":   runUntil,
	"grab":    grabText,
	"unpack":  unpackZip,
}

// TestScripts runs the real program, each script in a home of its own.
func TestScripts(t *testing.T) {
	commands := maps.Clone(scriptCommands)
	commands["hub"] = func(ts *testscript.TestScript, _ bool, args []string) { startHub(t, ts, args) }
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("CENTRAM_HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("CENTRAM_LISTEN", freeAddress())
			e.Setenv("OTHER_LISTEN", freeAddress()) // for a second daemon
			e.Setenv("THIRD_LISTEN", freeAddress())
			e.Setenv("CENTRAM_P2P_LISTEN", "127.0.0.1:0") // two scripts do not meet,
			e.Setenv("CENTRAM_P2P_DISCOVERY", "off")      // nor anybody else on the network
			e.Setenv("CENTRAM_TOY", "off")                // but where a script is about it
			e.Setenv("CENTRAM_THREADS", "1")              // the machine that tests may have few processors, and other work
			e.Setenv("HF_HUB_OFFLINE", "1")               // nor is anything asked of the internet
			e.Setenv("HF_HUB_CACHE", filepath.Join(e.WorkDir, "hub"))
			e.Setenv("NO_COLOR", "1")
			return nil
		},
		Cmds: commands,
		Condition: func(name string) (bool, error) {
			if name != "mount" {
				return false, fmt.Errorf("there is no condition %s", name)
			}
			return mountable(), nil
		},
	})
}

func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close()
	return l.Addr().String()
}

// makeToy writes a model of random weights: toy FILE [SEED].
func makeToy(ts *testscript.TestScript, _ bool, args []string) { makeRandom(ts, args, gguf.Generate) }

// startHub starts a hub that has a model, and describes it in the owner's catalogue, as tiny and, with a licence that has to be
// agreed to, as strict: hub FILE [SLOW].
func startHub(t *testing.T, ts *testscript.TestScript, args []string) {
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	var faults hubtest.Faults
	if len(args) > 1 {
		faults.Slow, err = time.ParseDuration(args[1])
		ts.Check(err)
	}
	h := hubtest.New(t, 1, faults)
	entry := func(name, license string) catalogue.Entry {
		path := name + ".Q4.gguf"
		return catalogue.Entry{
			Name: name, Title: "The " + name + " model", Kind: catalogue.Test, Repo: "open/models", License: license,
			Files: []catalogue.File{{Path: path, Size: int64(len(b)), SHA256: h.Add("open/models", path, b)}},
		}
	}
	list, err := json.Marshal(map[string]any{"models": []catalogue.Entry{entry("tiny", "mit"), entry("strict", "qwen-research")}})
	ts.Check(err)
	ts.Check(os.MkdirAll(ts.MkAbs("home"), 0o700))
	ts.Check(os.WriteFile(ts.MkAbs("home/catalogue.json"), list, 0o600))
	ts.Setenv("HF_ENDPOINT", h.URL)
	ts.Setenv("HF_HUB_OFFLINE", "")
}

// makeLarge writes a model of random weights that takes a second or more to be quantised: large FILE.
func makeLarge(ts *testscript.TestScript, _ bool, args []string) {
	makeRandom(ts, args, func(w io.Writer, _ gguf.Shape, seed uint64) error {
		shape := gguf.Shape{Layers: 4, Embedding: 1024, Heads: 8, FeedForward: 2048, Context: 128, Tied: true, Type: gguf.F16}
		return gguf.Generate(w, shape, seed)
	})
}

// waitFile waits until a file is there, or with a ! until it is not: appears FILE.
func waitFile(ts *testscript.TestScript, gone bool, args []string) {
	for range 1000 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err != nil == gone {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s was not to be seen in time, or did not go", args[0])
}

// makeAdapter writes an adapter of such a model: adapter FILE [SEED].
func makeAdapter(ts *testscript.TestScript, _ bool, args []string) {
	makeRandom(ts, args, gguf.GenerateAdapter)
}

// makeFolder writes a model of random weights and the folder that it might have come from: folder FILE FOLDER.
func makeFolder(ts *testscript.TestScript, _ bool, args []string) {
	makeToy(ts, false, args[:1])
	m, err := gguf.OpenModel(ts.MkAbs(args[0]))
	ts.Check(err)
	defer m.Close()
	ts.Check(hftest.WriteFolder(ts.MkAbs(args[1]), m))
}

func makeRandom(ts *testscript.TestScript, args []string, write func(io.Writer, gguf.Shape, uint64) error) {
	seed := 1
	if len(args) > 1 {
		var err error
		seed, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	ts.Check(write(f, gguf.Toy(), uint64(seed)))
}

// waitReady waits until the daemon takes requests.
func waitReady(ts *testscript.TestScript, _ bool, _ []string) {
	url := "http://" + ts.Getenv("CENTRAM_LISTEN") + "/health"
	for range 200 {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("the daemon was not ready in time")
}

// wantCode runs centram and checks its exit code: code 4 chat --model x.
func wantCode(ts *testscript.TestScript, _ bool, args []string) {
	got := "0"
	if err := ts.Exec("centram", args[1:]...); err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// wantNumber checks that JSON on standard output has a number greater than zero under a key: number KEY.
func wantNumber(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(`"` + args[0] + `": ([0-9.e+]+)`).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("there is no number %s", args[0])
	}
	if v, err := strconv.ParseFloat(m[1], 64); err != nil || v <= 0 {
		ts.Fatalf("%s is %s, want more than 0", args[0], m[1])
	}
}

// takeField puts the value of a key of the JSON on standard output into a variable: field VARIABLE KEY.
func takeField(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(`"` + args[1] + `": "?([^",\n]+)`).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("there is no field %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// runUntil runs centram until what it writes matches: until PATTERN peer list.
func runUntil(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[0])
	for range 400 {
		if ts.Exec("centram", args[1:]...) == nil && (want.MatchString(ts.ReadFile("stdout")) || want.MatchString(ts.ReadFile("stderr"))) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s was not to be seen in time", args[0])
}

// unpackZip writes what is in a zip, one file after the other, into a file: unpack ZIP FILE.
func unpackZip(ts *testscript.TestScript, _ bool, args []string) {
	z, err := zip.OpenReader(ts.MkAbs(args[0]))
	ts.Check(err)
	defer z.Close()
	var all []byte
	for _, f := range z.File {
		r, err := f.Open()
		ts.Check(err)
		b, err := io.ReadAll(r)
		ts.Check(err)
		all = append(append(all, f.Name+"\n"...), b...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), all, 0o600))
}

// grabText waits for a text in a file that is being written, and puts what is in parentheses into a variable: grab VARIABLE
// FILE PATTERN.
func grabText(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[2])
	for range 200 {
		text, _ := os.ReadFile(ts.MkAbs(args[1])) // it may not be there yet
		if m := want.FindSubmatch(text); m != nil {
			ts.Setenv(args[0], string(m[1]))
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	ts.Fatalf("there was no %s in %s in time", args[2], args[1])
}
