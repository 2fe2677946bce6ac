package main

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/centram/centram/llama"
	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

// Set by the linker; see the Makefile.
var version, commit, backend string

// buildVersion says what this program is, from the linker's flags or else from what Go notes of a build.
func buildVersion() server.Version {
	v := server.Version{Version: version, Commit: commit, Llama: llama.Version, Backend: backend, Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = cmp.Or(v.Commit, s.Value[:min(len(s.Value), 12)])
			}
		}
		v.Version = cmp.Or(v.Version, info.Main.Version)
	}
	v.Version = cmp.Or(v.Version, "(devel)")
	v.Commit = cmp.Or(v.Commit, "unknown")
	if v.Backend == "" {
		v.Backend = "cpu"
		if llama.GPUOffload() {
			v.Backend = "gpu"
		}
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Say what this program is", Args: cobra.NoArgs}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		v := buildVersion()
		if *asJSON {
			return a.printJSON(v)
		}
		return table(a.out, [][]string{
			{"centram", v.Version},
			{"commit", v.Commit},
			{"llama.cpp", v.Llama},
			{"backend", v.Backend},
			{"go", v.Go},
		})
	}
	return cmd
}
