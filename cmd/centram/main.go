// Command centram is a node of Centram: `centram serve` is the daemon, and the other subcommands talk to it, or do
// their work without it where that is possible.
//
// What a program may want to read goes to standard output, everything else to standard error. The exit code is 0 if all
// went well, 1 if something failed, 2 if the command was not understood, 3 if it needs a daemon and none runs, and 4 if
// what was named does not exist.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/centram/centram"
	"github.com/spf13/cobra"
)

const (
	exitFailed = iota + 1
	exitUsage
	exitNoDaemon
	exitNotFound
	exitLicense
)

func main() {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, lookup: os.LookupEnv}
	os.Exit(a.run(os.Args[1:]))
}

// run executes a command line and returns its exit code.
func (a *app) run(args []string) int {
	root := a.command()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return 0
	}
	if !a.started { // cobra itself did not understand the words or flags
		err = usageError{err, "See: " + cmd.CommandPath() + " --help"}
	}
	a.complain(err)
	return exitCode(err)
}

func exitCode(err error) int {
	_, usage := errors.AsType[usageError](err)
	switch {
	case usage:
		return exitUsage
	case errors.Is(err, errNoDaemon):
		return exitNoDaemon
	case centram.CodeOf(err) == centram.NotFound:
		return exitNotFound
	case notAgreed(err):
		return exitLicense
	}
	return exitFailed
}

// usageError is a command line that makes no sense.
type usageError struct {
	error
	hint string
}

func (e usageError) Unwrap() error { return e.error }

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "centram",
		Short: "Run language models on your own machine",
		Long: "Centram runs language models on your own machine: chat with them on a page, in the terminal, or over the\n" +
			"OpenAI and Ollama APIs.\n\n" +
			"  centram model import FILE.gguf    add a model\n" +
			"  centram serve                     start the daemon and its page\n" +
			"  centram chat                      chat in the terminal\n" +
			"  centram doctor                    find out what is wrong",
		Version:           buildVersion().Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.start(cmd) },
		Args:              cobra.NoArgs,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetVersionTemplate("centram {{.Version}}\n")
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "no hints and no progress")
	root.AddCommand(
		a.serveCommand(), a.chatCommand(), a.modelCommand(), a.listCommand(), a.removeCommand(), a.psCommand(),
		a.trainCommand(), a.evalCommand(), a.loraCommand(), a.nodeCommand(), a.peerCommand(), a.blobCommand(), a.hyperlinkCommand(),
		a.benchCommand(), a.doctorCommand(), a.configCommand(), a.identityCommand(), a.versionCommand(), a.quantizeWorker(),
	)
	return root
}
