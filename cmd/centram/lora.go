package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/lora"
	"github.com/centram/centram/lora/peft"
	"github.com/centram/centram/models"
	"github.com/spf13/cobra"
)

func (a *app) loraCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "lora", Short: "List, apply and show adapters, and exchange them with Hugging Face's PEFT", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.loraListCommand(), a.loraApplyCommand(), a.loraRemoveCommand(), a.loraShowCommand(), a.loraExportCommand(), a.loraImportCommand())
	return cmd
}

// adapterReport is what --json prints of an adapter.
type adapterReport struct {
	Path       string  `json:"path"`
	Name       string  `json:"name"`
	Rank       int     `json:"rank"`
	Alpha      float64 `json:"alpha"` // 0: the rank of each matrix
	Matrices   int     `json:"matrices"`
	Parameters uint64  `json:"parameters"`
	SizeBytes  int64   `json:"size_bytes"`
	// Privacy is what it says of how little it tells of any one document.
	Privacy *lora.Claim `json:"privacy,omitempty"`
	// Model and About are of an adapter in the list.
	Model string          `json:"model,omitempty"`
	About json.RawMessage `json:"about,omitempty"`
}

func (a *app) loraShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show FILE|MODEL:ADAPTER", Short: "Say what is in an adapter, and whether it fits a model", Args: cobra.ExactArgs(1),
		Example:           "  centram lora show qwen:notes\n  centram lora show notes.gguf --model qwen",
		ValidArgsFunction: a.completeAdapters,
	}
	model, asJSON := modelFlag(cmd), jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, model, known, err := a.adapterFile(cmd.Context(), args[0], *model)
		if err != nil {
			return err
		}
		base, err := summaryOf(model)
		if err != nil {
			return err
		}
		f, err := gguf.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		s, err := gguf.CheckAdapter(f, base)
		if err != nil {
			return err
		}
		return a.printAdapter(path, s, known, *asJSON)
	}
	return cmd
}

func (a *app) loraExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "export FILE|MODEL:ADAPTER FOLDER", Short: "Write an adapter as PEFT reads it", Args: cobra.ExactArgs(2),
		Example: "  centram lora export qwen:notes notes/ --base-model Qwen/Qwen2.5-0.5B-Instruct\n" +
			"  centram lora export notes.gguf notes/ --model qwen",
		ValidArgsFunction: a.completeAdapters,
	}
	model := modelFlag(cmd)
	name := cmd.Flags().String("base-model", "", "`name` that PEFT loads the model by")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, model, _, err := a.adapterFile(cmd.Context(), args[0], *model)
		if err != nil {
			return err
		}
		base, err := summaryOf(model)
		if err != nil {
			return err
		}
		if err := peft.Export(path, args[1], base, peft.ExportConfig{BaseModel: *name}); err != nil {
			return err
		}
		fmt.Fprintln(a.out, args[1])
		return nil
	}
	return cmd
}

func (a *app) loraImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "import FOLDER FILE", Short: "Make an adapter of a PEFT folder", Args: cobra.ExactArgs(2),
		Example: "  centram lora import notes/ notes.gguf --model qwen",
	}
	model, asJSON := modelFlag(cmd), jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, path, err := a.modelFile(cmd.Context(), *model)
		if err != nil {
			return err
		}
		base, err := summaryOf(path)
		if err != nil {
			return err
		}
		if _, err := os.Stat(args[1]); err == nil {
			return centram.Errorf(centram.Conflict, "%s is there already", args[1]).WithHint("Name another file, or remove that one.")
		}
		s, err := peft.Import(args[0], args[1], base, peft.ImportConfig{Fold: true})
		if err != nil {
			return err
		}
		return a.printAdapter(args[1], s, nil, *asJSON)
	}
	return cmd
}

func modelFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("model", "m", "", "`name` or file of the model that the adapter is for")
}

// summaryOf describes the model that an adapter is for.
func summaryOf(path string) (gguf.Summary, error) {
	g, err := gguf.OpenModel(path)
	if err != nil {
		return gguf.Summary{}, err
	}
	return g.Summary, g.Close()
}

// printAdapter says what is in a file, and of an adapter in the list what is known of it.
func (a *app) printAdapter(path string, s gguf.AdapterSummary, known *models.Adapter, asJSON bool) error {
	report := adapterReport{Path: path, Name: s.Name, Rank: s.Rank, Alpha: s.Alpha, Matrices: s.Matrices, Parameters: s.Parameters, SizeBytes: s.SizeBytes}
	if known != nil {
		report.Model, report.About = known.Called(), known.About
	}
	private, claim, err := privateClaim(path)
	if err != nil {
		return err
	}
	report.Privacy = claim
	if asJSON {
		return a.printJSON(report)
	}
	alpha := "the rank"
	if s.Alpha > 0 {
		alpha = fmt.Sprint(s.Alpha)
	}
	rows := [][]string{
		{"adapter", path},
		{"name", s.Name},
		{"rank", fmt.Sprint(s.Rank)},
		{"alpha", alpha},
		{"matrices", fmt.Sprint(s.Matrices)},
		{"parameters", countText(s.Parameters)},
		{"size", bytesText(s.SizeBytes)},
		{"private", private},
	}
	if known != nil {
		rows = append(rows, []string{"model", report.Model}, []string{"about", string(report.About)})
	}
	return table(a.out, rows)
}
