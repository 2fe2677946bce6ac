package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/centram/centram/models"
	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

func (a *app) modelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "model", Short: "List, download, add, check, quantise and remove models", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	list, remove := a.listCommand(), a.removeCommand()
	list.Aliases, list.Hidden = []string{"ls"}, false
	remove.Hidden = false
	cmd.AddCommand(list, a.searchCommand(), a.downloadCommand(), a.importCommand(), a.showCommand(), a.verifyCommand(), a.updateCommand(), a.quantizeCommand(), remove)
	return cmd
}

// listCommand is also a command of its own, as in Ollama.
func (a *app) listCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the models", Args: cobra.NoArgs, Hidden: true}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := a.library(cmd.Context())
		if err != nil {
			return err
		}
		defer l.Close()
		list, err := l.List(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(map[string]any{"models": list})
		}
		if len(list) == 0 {
			a.hint("There is no model yet. Add one with: centram model import FILE.gguf")
			return nil
		}
		return table(a.out, modelRows(list))
	}
	return cmd
}

func modelRows(list []server.Model) [][]string {
	rows := [][]string{{"NAME", "PARAMETERS", "QUANTIZATION", "SIZE", "CONTEXT", "STATE"}}
	for _, m := range list {
		state := string(m.State)
		if m.Loaded && m.State == models.Ready {
			state = "loaded"
		}
		rows = append(rows, []string{
			m.Name, countText(m.Parameters), m.Quantization, bytesText(m.SizeBytes), fmt.Sprint(m.Context), state,
		})
	}
	return rows
}

func (a *app) importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "import FILE|FOLDER", Short: "Add a GGUF file to the list, or convert a folder from Hugging Face", Args: cobra.ExactArgs(1),
		Long: "Add a model to the list. A GGUF file stays where it is. A folder from Hugging Face, of a Qwen 2.5 or Llama model in\n" +
			"safetensors, is converted into the models folder and stays as it is.",
		Example: "  centram model import ~/Downloads/qwen2.5-1.5b-instruct-q4_k_m.gguf --name qwen\n" +
			"  centram model import ~/Downloads/Qwen2.5-0.5B-Instruct/",
	}
	c := conversionFlags(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		path, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		l, err := a.library(ctx)
		if err != nil {
			return err
		}
		defer l.Close()
		m, err := a.importModel(ctx, l, path, *c)
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(m)
		}
		fmt.Fprintln(a.out, m.Name)
		a.hint("%s parameters, %s. Chat with it: centram chat --model %s", countText(m.Parameters), m.Quantization, m.Name)
		return nil
	}
	return cmd
}

// details is all that is known of a model.
type details struct {
	server.Model
	ImportedAt    *time.Time `json:"imported_at,omitempty"` // nil for a file that is not in the list
	Heads         int        `json:"heads"`
	KVHeads       int        `json:"kv_heads"`
	FeedForward   int        `json:"feed_forward"`
	VocabSize     int        `json:"vocab_size"`
	KVBytes       int64      `json:"kv_bytes_per_token"`
	License       string     `json:"license"`
	Title         string     `json:"title"`
	TemplateText  string     `json:"template,omitempty"`
	SliceFirst    int        `json:"slice_first,omitempty"`
	SliceEnd      int        `json:"slice_end,omitempty"`
	LayersOfWhole int        `json:"layers_of_whole,omitempty"`
}

func (a *app) showCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME|FILE", Short: "Show what is known of a model", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeModels,
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := a.details(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(d)
		}
		return table(a.out, d.rows())
	}
	return cmd
}

// details looks into the model's file. A model in the list whose file is gone is described as it was.
func (a *app) details(ctx context.Context, model string) (details, error) {
	if isFile(model) {
		path, err := filepath.Abs(model)
		if err != nil {
			return details{}, err
		}
		return fileDetails(server.Model{Name: filepath.Base(path), Path: path, State: models.Ready})
	}
	l, err := a.library(ctx)
	if err != nil {
		return details{}, err
	}
	defer l.Close()
	m, err := l.Get(ctx, model)
	if err != nil {
		return details{}, err
	}
	d, err := fileDetails(m)
	if err != nil {
		return details{Model: m, ImportedAt: imported(m)}, nil
	}
	return d, nil
}

func fileDetails(m server.Model) (details, error) {
	c, err := models.CheckFile(m.Path)
	if err != nil && !c.Stage { // a part of a model can be described, although it cannot be run
		return details{}, err
	}
	m.SizeBytes, m.Architecture, m.Parameters, m.Layers = c.SizeBytes, c.Architecture, c.Parameters, c.Layers
	m.Embedding, m.Context, m.Quantization, m.ChatTemplate = c.Embedding, c.Context, c.Quantization, c.ChatTemplate
	d := details{
		Model: m, Heads: c.Heads, KVHeads: c.KVHeads, FeedForward: c.FeedForward,
		ImportedAt: imported(m), VocabSize: c.VocabSize, KVBytes: c.KVBytesPerToken, License: c.License, Title: c.Name, TemplateText: c.Template,
	}
	if c.WholeLayers > 0 && c.Slice.Len() != c.WholeLayers {
		d.SliceFirst, d.SliceEnd, d.LayersOfWhole = c.Slice.First, c.Slice.End, c.WholeLayers
	}
	return d, nil
}

func imported(m server.Model) *time.Time {
	if m.ImportedAt.IsZero() {
		return nil
	}
	return &m.ImportedAt
}

func (d details) rows() [][]string {
	template := "no"
	if d.ChatTemplate {
		template = "yes"
	}
	rows := [][]string{
		{"name", d.Name},
		{"file", d.Path},
		{"size", bytesText(d.SizeBytes)},
		{"architecture", d.Architecture},
		{"parameters", fmt.Sprintf("%s (%d)", countText(d.Parameters), d.Parameters)},
		{"layers", fmt.Sprint(d.Layers)},
		{"embedding", fmt.Sprint(d.Embedding)},
		{"context", fmt.Sprintf("%d tokens", d.Context)},
		{"quantization", d.Quantization},
		{"memory", fmt.Sprintf("%s, and %s for 1000 tokens", bytesText(d.SizeBytes), bytesText(1000*d.KVBytes))},
		{"chat template", template},
	}
	if d.License != "" {
		rows = append(rows, []string{"license", d.License})
	}
	if d.LayersOfWhole > 0 {
		rows = append(rows, []string{"slice", fmt.Sprintf("layers %d to %d of %d", d.SliceFirst, d.SliceEnd-1, d.LayersOfWhole)})
	}
	if d.Error != "" {
		rows = append(rows, []string{string(d.State), d.Error})
	}
	return rows
}

// removeCommand is also a command of its own, as in Ollama.
func (a *app) removeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rm NAME", Short: "Remove a model from the list", Args: cobra.ExactArgs(1), Hidden: true,
		ValidArgsFunction: a.completeModels,
	}
	file := cmd.Flags().Bool("file", false, "delete the file as well, if it lies in the models folder")
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask before a file is deleted")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l, err := a.library(cmd.Context())
		if err != nil {
			return err
		}
		defer l.Close()
		m, err := l.Get(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *file && !*yes {
			if err := a.confirm("Delete the file " + m.Path + "?"); err != nil {
				return err
			}
		}
		if err := l.Delete(cmd.Context(), m.Name, *file); err != nil {
			return err
		}
		if *file {
			a.hint("%s and its file are gone.", m.Name)
		} else {
			a.hint("%s is no longer in the list. Its file is still there: %s", m.Name, m.Path)
		}
		return nil
	}
	return cmd
}

// confirm asks a person. Where there is none, the answer has to be in the command.
func (a *app) confirm(question string) error {
	if !terminal(a.in) {
		return usageError{errors.New("this cannot be undone, and nobody is there to ask"), "Add -y to go ahead."}
	}
	if !a.ask(question) {
		return errors.New("nothing was deleted")
	}
	return nil
}

// ask has a person answer yes or no.
func (a *app) ask(question string) bool {
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	said, _ := bufio.NewReader(a.in).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(said), "y")
}

// completeModels names the models for a shell, and what they are with an adapter.
func (a *app) completeModels(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.start(cmd) != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	l, err := a.library(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	defer l.Close()
	list, err := l.List(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []string
	for _, m := range list {
		names = append(names, m.Name)
		for _, x := range m.Adapters {
			names = append(names, x.Model)
		}
	}
	return names, cobra.ShellCompDirectiveDefault // files may be named as well
}
