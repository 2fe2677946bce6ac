package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/identity"
	"github.com/centram/centram/models"
	"github.com/centram/centram/models/hub"
	"github.com/centram/centram/server"
)

// network asks the daemon: only that knows what became of its port and keys.
func (d *doctor) network(ctx context.Context) verdict {
	if d.client == nil {
		return fine("not running; the daemon is to listen for other nodes at %s", d.app.cfg.P2PListen)
	}
	var n server.NodeState
	if err := d.client.do(ctx, http.MethodGet, "/api/v1/node", nil, &n); err != nil {
		return verdict{warn, err.Error(), centram.HintOf(err)}
	}
	d.node = n
	switch {
	case n.State == "on" && n.Peers == 0:
		return fine("on, UDP %d, no peer yet", n.Port)
	case n.State == "on":
		return fine("on, UDP %d, %s connected", n.Port, plural(n.Peers, "peer"))
	case n.State == "off":
		return fine("off, as it was asked for")
	}
	return verdict{warn, printable(n.Why), printable(n.Hint)}
}

// nearby says why machines on the same network may not see each other.
func (d *doctor) nearby(ctx context.Context) verdict {
	cfg := d.app.cfg
	switch {
	case cfg.P2PListen == "off" || cfg.P2PDiscovery == "off":
		return fine("other machines are not looked for, as it was asked for")
	case d.node.State == "on" && d.node.Peers > 0:
		return fine("other machines are found")
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return verdict{warn, "the network interfaces are not known: " + err.Error(), ""}
	}
	able := 0
	for _, i := range interfaces {
		if addresses, err := i.Addrs(); err == nil && len(addresses) > 0 && i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagMulticast != 0 {
			able++
		}
	}
	if able == 0 {
		return verdict{warn, "this machine is on no network on which others can be found", "Connect it, or name a machine: centram peer add HOST:PORT"}
	}
	v := fine("%s on which others can be found, and none was yet", plural(able, "network"))
	if wall := firewall(); wall != "" && d.node.Port > 0 {
		return verdict{warn, wall + " is active and may keep other machines away", fmt.Sprintf("Let them in: UDP port %d, and 5353 for multicast DNS.", d.node.Port)}
	}
	return v
}

// firewall names a firewall that is known to be active. To read its rules takes rights that nobody should run this with.
func firewall() string {
	switch runtime.GOOS {
	case "linux":
		if b, err := os.ReadFile("/etc/ufw/ufw.conf"); err == nil && strings.Contains(string(b), "\nENABLED=yes") {
			return "the firewall ufw"
		}
		if _, err := os.Stat("/run/firewalld"); err == nil {
			return "the firewall firewalld"
		}
	}
	return ""
}

// versionsOf compares the versions of the nodes that are connected with this one's.
func (d *doctor) versionsOf(ctx context.Context) verdict {
	if d.client == nil || d.node.State != "on" {
		return fine("no peers are asked")
	}
	var list struct {
		Peers []server.Peer `json:"peers"`
	}
	if err := d.client.do(ctx, http.MethodGet, "/api/v1/peers", nil, &list); err != nil {
		return verdict{warn, err.Error(), centram.HintOf(err)}
	}
	same := 0
	for _, p := range list.Peers {
		if p.State != "connected" {
			continue
		}
		if p.Version != d.client.version.Version {
			return verdict{
				warn, fmt.Sprintf("%s runs %s, this node %s", printable(p.Name), printable(p.Version), d.client.version.Version),
				"Use the same version on all machines: what one has learnt to say, the other may not understand.",
			}
		}
		same++
	}
	return fine("%s with the same version", plural(same, "peer"))
}

// hub is asked, and its clock is compared with ours: certificates and signatures are good at some times only.
func (d *doctor) hub(ctx context.Context) verdict {
	orders, err := d.app.newOrders()
	if err != nil {
		return verdict{warn, err.Error(), centram.HintOf(err)}
	}
	if hub.FromEnvironment(os.LookupEnv).Offline {
		return fine("not asked, as HF_HUB_OFFLINE is set; models cannot be downloaded")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ahead, err := orders.Hub.Reach(ctx)
	if err != nil {
		return verdict{warn, err.Error(), centram.HintOf(err)}
	}
	if ahead.Abs() > time.Minute {
		return verdict{warn, fmt.Sprintf("%s answers, but its clock and this one's are %s apart", orders.Hub.Name(), span(ahead.Abs())), "Set the clock: sudo timedatectl set-ntp true"}
	}
	return fine("%s answers; models can be downloaded", orders.Hub.Name())
}

// identity says whether there is a copy of the keys: who loses them is a stranger to all peers, and loses what is in the ledger.
func (d *doctor) identity(context.Context) verdict {
	path := d.app.identityPath()
	f, err := identity.Read(path)
	if centram.CodeOf(err) == centram.NotFound {
		return fine("none yet; the daemon makes one")
	}
	if err != nil {
		return verdict{fail, err.Error(), centram.HintOf(err)}
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return verdict{fail, path + " may be read by others", "chmod 600 " + path}
	}
	if info, err := os.Stat(d.app.copiedPath()); errors.Is(err, fs.ErrNotExist) || err == nil && info.ModTime().Before(f.Created) {
		return verdict{warn, "there is no copy of the keys of " + f.Peer.Short(), "Keep one elsewhere: centram identity export FILE"}
	} else if err == nil {
		return fine("%s, of which a copy was made on %s", f.Peer.Short(), info.ModTime().Format(time.DateOnly))
	}
	return fine("%s", f.Peer.Short())
}

// copiedPath is a file whose time says when the keys were copied last.
func (a *app) copiedPath() string { return filepath.Join(a.cfg.Data, "identity.copied") }

// hashes compares what is known of the files of models with the catalogue. The daemon hashes them when they come.
func (d *doctor) hashes(context.Context) verdict {
	known, err := d.app.knownHashes()
	if err != nil {
		return verdict{warn, err.Error(), centram.HintOf(err)}
	}
	right, open := 0, 0
	for _, m := range d.models {
		want := known[filepath.Base(m.Path)]
		switch {
		case len(want) == 0 || len(models.Parts(m.Path)) > 1: // of split ones there is one digest of all
		case m.Digest == "":
			open++
		case !slices.Contains(want, m.Digest):
			return verdict{fail, m.Name + " is not what the catalogue says: its file was changed or damaged", "Remove it and download it again: centram model rm --file " + m.Name}
		default:
			right++
		}
	}
	if open > 0 {
		return verdict{warn, fmt.Sprintf("%s of the catalogue not hashed yet", plural(open, "model")), "Let the daemon run for a while, or: centram model verify"}
	}
	return fine("%s of the catalogue, all as they should be", plural(right, "model"))
}
