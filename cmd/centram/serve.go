package main

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/centram/centram/config"
	"github.com/spf13/cobra"
)

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Aliases: []string{"start"}, Short: "Start the daemon and its page", Args: cobra.NoArgs, Long: serveHelp(),
	}
	setting(cmd, "listen", "listen", "`address` and port (127.0.0.1:9740)")
	setting(cmd, "model", "model", "`name` or file of the model to load at the start and to use by default")
	computing(cmd)
	setting(cmd, "parallel", "parallel", "`number` of answers that a model writes at once (4)")
	setting(cmd, "keep-alive", "keep_alive", "`time` that an unused model stays in memory, -1s for ever (5m)")
	setting(cmd, "memory-limit", "memory_limit", "`size` of the memory that models may take together (80 %)")
	setting(cmd, "tls-cert", "tls_cert", "`file` of the certificate, needed to let other machines in")
	setting(cmd, "tls-key", "tls_key", "`file` of its key")
	setting(cmd, "allow-host", "allowed_hosts", "`names` by which others may reach it, separated by commas")
	setting(cmd, "allow-origin", "allowed_origins", "`pages` elsewhere that may call the API")
	setting(cmd, "p2p-listen", "p2p_listen", "UDP `address` and port for other nodes (:9743)")
	setting(cmd, "name", "p2p_name", "`name` that other nodes show for this one (that of this machine)")
	setting(cmd, "policy", "p2p_policy", "`who` gets what costs or reveals something: open, paired or private (paired)")
	setting(cmd, "peer", "p2p_peers", "`addresses` of nodes to connect to, separated by commas")
	alone := cmd.Flags().Bool("no-peers", false, "keep off the network")
	setting(cmd, "log-level", "log_level", "`level` of the log: debug, info, warn or error (info)")
	open := cmd.Flags().Bool("open", false, "open the page in the browser")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		if *alone {
			if err := a.cfg.SetFlag("p2p_listen", "no-peers", "off"); err != nil {
				return err
			}
		}
		d, err := a.newDaemon(ctx)
		if err != nil {
			return err
		}
		defer d.Close()
		if *open {
			if err := openBrowser(d.page()); err != nil {
				a.hint("The browser did not open: %v", err)
			}
		}
		return d.Run(ctx)
	}
	return cmd
}

func serveHelp() string {
	var b strings.Builder
	b.WriteString("Start the daemon and its page, http://127.0.0.1:9740/detra/. It ends with Ctrl+C.\n\n" +
		"To let other machines in, give it a certificate and tell them the token:\n" +
		"  centram serve --listen 0.0.0.0:9740 --tls-cert cert.pem --tls-key key.pem --allow-host my-laptop.local\n" +
		"  (the token is in the file \"token\" of the data directory; see: centram config path)\n\n" +
		"Every setting can also be given in the environment or in the file (centram config set):\n")
	for _, k := range config.Keys() {
		b.WriteString("  " + k.Variable() + strings.Repeat(" ", max(1, 25-len(k.Variable()))) + k.Help + "\n")
	}
	b.WriteString("  CENTRAM_HOME" + strings.Repeat(" ", 13) + "directory that everything is kept in, instead of the XDG ones\n")
	return strings.TrimSuffix(b.String(), "\n")
}

// openBrowser does not wait for the browser to end.
func openBrowser(url string) error {
	name := "xdg-open"
	if runtime.GOOS == "darwin" {
		name = "open"
	}
	cmd := exec.Command(name, url)
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// notify tells systemd how the service is, if it asked for that.
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}
