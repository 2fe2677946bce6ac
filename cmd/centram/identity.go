package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/identity"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"rsc.io/qr"
)

// passphraseVariable holds a passphrase for programs, which cannot type one.
const passphraseVariable = "CENTRAM_PASSPHRASE"

func (a *app) identityCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "identity", Short: "Make, show and keep the keys that this node is known by", Args: cobra.NoArgs,
		Long: "A node is known by its keys. They are in one file in the data folder, which nobody else may read. A passphrase\n" +
			"seals them; programs give it in " + passphraseVariable + ".",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.identityNewCommand(), a.identityListCommand(), a.identityExportCommand(), a.identityImportCommand())
	return cmd
}

func (a *app) identityPath() string { return filepath.Join(a.cfg.Data, "identity.toml") }

// identityReport is what --json prints.
type identityReport struct {
	ID      string    `json:"id"`
	Words   string    `json:"words"`
	Created time.Time `json:"created"`
	Sealed  bool      `json:"sealed"`
	File    string    `json:"file"`
}

func (a *app) identityReport() (identityReport, error) {
	f, err := identity.Read(a.identityPath())
	if err != nil {
		return identityReport{}, err
	}
	return identityReport{f.Peer.String(), identity.Words(f.Peer), f.Created, f.Sealed(), a.identityPath()}, nil
}

func (r identityReport) rows() [][]string {
	sealed := "no"
	if r.Sealed {
		sealed = "yes"
	}
	return [][]string{
		{"id", r.ID},
		{"words", r.Words},
		{"made", r.Created.Format(time.DateTime + " MST")},
		{"passphrase", sealed},
		{"file", r.File},
	}
}

func (a *app) identityNewCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "new", Short: "Make the keys of this node", Args: cobra.NoArgs}
	protect := cmd.Flags().Bool("passphrase", false, "seal the keys with a passphrase")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		passphrase, err := a.newPassphrase(*protect)
		if err != nil {
			return err
		}
		if err := identity.Write(a.identityPath(), identity.New(time.Now()), passphrase); err != nil {
			return err
		}
		if err := a.showIdentity(*asJSON, false); err != nil {
			return err
		}
		a.hint("Keep a copy: centram identity export FILE")
		return nil
	}
	return cmd
}

func (a *app) identityListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"show"}, Short: "Show the id of this node, and the words two people compare", Args: cobra.NoArgs,
	}
	code := cmd.Flags().Bool("qr", false, "show the id as a QR code, too")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error { return a.showIdentity(*asJSON, *code) }
	return cmd
}

func (a *app) showIdentity(asJSON, code bool) error {
	r, err := a.identityReport()
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(r)
	}
	if err := table(a.out, r.rows()); err != nil || !code {
		return err
	}
	return writeQR(a.out, "CENTRAM:"+strings.ReplaceAll(r.ID, "-", ""))
}

func (a *app) identityExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "export FILE", Short: "Write a copy of the keys, sealed with a passphrase", Args: cobra.ExactArgs(1),
		Long: "Write a copy of the keys to a new file, sealed with a passphrase of its own. --plain leaves them open, for a place\n" +
			"that is safe by itself.",
	}
	plain := cmd.Flags().Bool("plain", false, "do not seal the copy")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		id, err := a.openIdentity(a.identityPath())
		if err != nil {
			return err
		}
		passphrase, err := a.newPassphrase(!*plain)
		if err != nil {
			return err
		}
		if err := identity.Write(args[0], id, passphrase); err != nil {
			if centram.CodeOf(err) == centram.Conflict {
				return centram.Errorf(centram.Conflict, "there is a file %s already", args[0]).WithHint("Choose another name: nothing is written over.")
			}
			return err
		}
		if err := a.noteCopy(); err != nil {
			return err
		}
		a.hint("Written to %s. Bring it back with: centram identity import %s", args[0], args[0])
		return nil
	}
	return cmd
}

func (a *app) identityImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Make this node the one whose keys are in a file", Args: cobra.ExactArgs(1),
		Long: "Make this node the one whose keys are in a file. Keys that are here already are never written over: --replace\n" +
			"moves them to a file beside. Two machines should not run with the same keys at a time.",
	}
	replace := cmd.Flags().Bool("replace", false, "put the keys that are here now aside")
	protect := cmd.Flags().Bool("passphrase", false, "seal the keys here, too")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		id, err := a.openIdentity(args[0])
		if err != nil {
			return err
		}
		passphrase, err := a.newPassphrase(*protect)
		if err != nil {
			return err
		}
		if *replace {
			if err := a.putIdentityAside(); err != nil {
				return err
			}
		}
		if err := identity.Write(a.identityPath(), id, passphrase); err != nil {
			if centram.CodeOf(err) == centram.Conflict {
				return centram.Errorf(centram.Conflict, "this node has keys already").
					WithHint("To put them aside: centram identity import --replace %s", args[0])
			}
			return err
		}
		if err := a.noteCopy(); err != nil { // the file that they came from
			return err
		}
		return a.showIdentity(false, false)
	}
	return cmd
}

// noteCopy notes that there is a copy of the keys, so that nobody is asked to make one.
func (a *app) noteCopy() error { return os.WriteFile(a.copiedPath(), nil, 0o600) }

// putIdentityAside gives the file that is there, readable or not, a name that nothing has.
func (a *app) putIdentityAside() error {
	aside := strings.TrimSuffix(a.identityPath(), ".toml") + time.Now().UTC().Format("-20060102-150405.000000") + ".toml"
	err := os.Rename(a.identityPath(), aside)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("put the keys that are here aside: %w", err)
	}
	a.hint("The keys that were here are in %s now.", aside)
	return nil
}

// openIdentity reads a file's keys, asking for the passphrase if they are sealed.
func (a *app) openIdentity(path string) (*identity.Identity, error) {
	f, err := identity.Read(path)
	if err != nil {
		return nil, err
	}
	passphrase := ""
	if f.Sealed() {
		if passphrase, err = a.passphrase("Passphrase of " + filepath.Base(path) + ": "); err != nil {
			return nil, err
		}
	}
	return f.Open(passphrase)
}

// newPassphrase has a person type one twice: with a typing error in it the keys would be lost. It is empty if none is
// wanted.
func (a *app) newPassphrase(wanted bool) (string, error) {
	if !wanted {
		return "", nil
	}
	first, err := a.passphrase("New passphrase: ")
	if err != nil {
		return "", err
	}
	if set, _ := a.lookup(passphraseVariable); set == "" {
		second, err := a.passphrase("Once more: ")
		if err != nil {
			return "", err
		}
		if first != second {
			return "", centram.Errorf(centram.Invalid, "the two passphrases differ").WithHint("Try again.")
		}
	}
	return first, nil
}

func (a *app) passphrase(prompt string) (string, error) {
	if p, _ := a.lookup(passphraseVariable); p != "" {
		return p, nil
	}
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", centram.Errorf(centram.Unauthorized, "a passphrase is needed, and there is no terminal to ask for it").
			WithHint("Set " + passphraseVariable + ".")
	}
	fmt.Fprint(a.err, prompt)
	b, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(a.err)
	if err != nil {
		return "", fmt.Errorf("read the passphrase: %w", err)
	}
	if len(b) == 0 {
		return "", centram.Errorf(centram.Invalid, "the passphrase is empty").WithHint("Try again.")
	}
	return string(b), nil
}

// quiet zone around a QR code, in modules (ISO/IEC 18004).
const qrMargin = 4

// writeQR draws a QR code in half blocks, two rows of modules a line. Light modules are the drawn ones and the colours are
// said outright, so that it can be scanned from dark and light terminals alike.
func writeQR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return fmt.Errorf("make the QR code: %w", err)
	}
	halves := map[[2]bool]string{{false, false}: "█", {false, true}: "▀", {true, false}: "▄", {true, true}: " "} // by dark or not
	var b strings.Builder
	for y := -qrMargin; y < code.Size+qrMargin; y += 2 {
		b.WriteString("\x1b[97;40m")
		for x := -qrMargin; x < code.Size+qrMargin; x++ {
			b.WriteString(halves[[2]bool{code.Black(x, y), code.Black(x, y+1)}])
		}
		b.WriteString("\x1b[0m\n")
	}
	_, err = io.WriteString(w, b.String())
	return err
}
