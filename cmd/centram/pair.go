package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

func (a *app) peerPairCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "pair PEER|LINK", Short: "Pair with a peer: by its code, or by words that both screens show", Args: cobra.ExactArgs(1),
		Example: "  centram peer pair alice                          both screens show words to compare\n" +
			"  centram peer pair ABCDEFG --code 1234-5678       the code is on the other screen: centram peer code\n" +
			"  centram peer pair 'centram:pair?id=...&code=...' so is the link",
		ValidArgsFunction: a.completePeers,
	}
	code := cmd.Flags().String("code", "", "the `code` on the other screen")
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask: both screens show the same words")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p := pairing{app: a, peer: args[0], code: *code, yes: *yes}
		if err := p.readLink(); err != nil {
			return err
		}
		if p.code == "" && !p.yes && !terminal(a.in) {
			return usageError{errors.New("nobody is there to compare the words"), "Pair with a code instead, which the other side shows: centram peer code"}
		}
		var err error
		if p.client, err = a.daemon(cmd.Context()); err != nil {
			return err
		}
		return p.run(cmd.Context())
	}
	return cmd
}

// pairing is one run of `centram peer pair`.
type pairing struct {
	*client
	app  *app
	peer string // as it was named
	code string
	at   []string // where the peer may be, by the link
	yes  bool
}

// readLink takes the parts out of a link, if that is what the peer was named by.
func (p *pairing) readLink() error {
	scheme, rest, _ := strings.Cut(p.peer, ":")
	if !strings.EqualFold(scheme, "centram") {
		return nil
	}
	action, query, isLink := strings.Cut(rest, "?")
	values, err := url.ParseQuery(query)
	if !isLink {
		p.peer = rest // the QR code of an identity holds no more than the id
		return nil
	}
	if err != nil || !strings.EqualFold(action, "pair") || values.Get("id") == "" {
		return usageError{errors.New("this is not a whole link for pairing"), "Put it between single quotes, and copy all of it: centram peer pair 'centram:pair?id=...'"}
	}
	p.peer, p.code, p.at = values.Get("id"), cmp.Or(p.code, values.Get("code")), values["at"]
	return nil
}

func (p *pairing) run(ctx context.Context) error {
	if p.code != "" {
		return p.byCode(ctx)
	}
	return p.byWords(ctx)
}

func (p *pairing) byCode(ctx context.Context) error {
	var done server.Pairing
	body := map[string]any{"code": p.code}
	if len(p.at) > 0 {
		body["at"] = p.at
	}
	if err := p.do(ctx, http.MethodPost, peerPath(p.peer)+"/pair", body, &done); err != nil {
		return err
	}
	p.app.hint("Paired with %s.", peerLabel(done.Name, done.Short))
	return nil
}

// byWords begins a pairing or answers the one that the peer has begun, and waits for the other side.
func (p *pairing) byWords(ctx context.Context) error {
	peer, err := p.client.peer(ctx, p.peer)
	if err != nil {
		return err
	}
	if peer.Trust != "stranger" {
		p.app.hint("%s is paired already.", peerLabel(peer.Name, peer.Short))
		return nil
	}
	with, err := p.begin(ctx, peer)
	if err != nil {
		return err
	}
	if err := p.compare(ctx, with); err != nil {
		return err
	}
	path := "/api/v1/pairings/" + url.PathEscape(with.ID)
	if err := p.do(ctx, http.MethodPost, path, map[string]bool{"agree": true}, &with); err != nil {
		return err
	}
	return p.await(ctx, with)
}

func (p *pairing) begin(ctx context.Context, peer server.Peer) (with server.Pairing, err error) {
	if with, found, err := p.waiting(ctx, peer.ID); err != nil || found && with.State == "waiting" && !with.Mine {
		return with, err
	}
	err = p.do(ctx, http.MethodPost, peerPath(peer.ID)+"/pair", struct{}{}, &with)
	return with, err
}

// waiting finds the pairing with a peer that the daemon knows of.
func (p *pairing) waiting(ctx context.Context, id string) (server.Pairing, bool, error) {
	list, err := p.pairings(ctx)
	for _, with := range list {
		if with.ID == id {
			return with, true, nil
		}
	}
	return server.Pairing{}, false, err
}

// compare has a person compare the words.
func (p *pairing) compare(ctx context.Context, with server.Pairing) error {
	name := peerLabel(with.Name, with.Short)
	if with.Outgoing {
		var own server.NodeState
		if err := p.do(ctx, http.MethodGet, "/api/v1/node", nil, &own); err != nil {
			return err
		}
		p.app.hint("Asked %s to pair. Its owner has two minutes to type there: centram peer pair %s\nBoth screens show the same words then:\n", name, own.Short)
	} else {
		p.app.hint("%s wants to pair. Both screens show the same words:\n", name)
	}
	fmt.Fprintln(p.app.out, with.Words)
	if p.yes || p.app.ask("\nDoes the other screen show the same words?") {
		return nil
	}
	path := "/api/v1/pairings/" + url.PathEscape(with.ID)
	if err := p.do(ctx, http.MethodPost, path, map[string]bool{"agree": false}, nil); err != nil {
		return err
	}
	return centram.Errorf(centram.Forbidden, "Not paired with %s.", name).
		WithHint("If the words differed, somebody may be in between: try on another network, or read out the ids: centram identity list")
}

// await waits until both sides have agreed.
func (p *pairing) await(ctx context.Context, with server.Pairing) error {
	if with.State == "waiting" {
		p.app.hint("Waiting for the other side.")
	}
	for ; ; time.Sleep(pollEvery) {
		peer, err := p.client.peer(ctx, with.ID)
		if err != nil {
			return err
		}
		if peer.Trust != "stranger" {
			p.app.hint("Paired with %s.", peerLabel(peer.Name, peer.Short))
			return nil
		}
		now, found, err := p.waiting(ctx, with.ID)
		if err != nil {
			return err
		}
		if found && now.State == "failed" {
			return notPaired(with, now.Reason)
		}
		if !found || time.Now().After(with.Expires.Add(time.Second)) {
			return notPaired(with, "nobody answered in time")
		}
	}
}

func notPaired(with server.Pairing, why string) error {
	return centram.Errorf(centram.Unavailable, "Not paired with %s: %s.", peerLabel(with.Name, with.Short), strings.TrimSuffix(printable(why), ".")).
		WithHint("Try again: centram peer pair %s", with.Short)
}

func (a *app) peerCodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "code", Short: "Show a code that another node can pair with, and wait for it", Args: cobra.NoArgs,
		Long: "Show a code that another node can pair with. It is good for one pairing, for two minutes and for five attempts. The\n" +
			"command waits until somebody has paired; with --json it does not.",
	}
	picture := cmd.Flags().Bool("qr", false, "show the link as a QR code, too")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			code, err := c.pairingCode(cmd.Context())
			if err != nil {
				return err
			}
			return a.printJSON(code)
		}
		return a.showCode(cmd.Context(), c, *picture)
	}
	return cmd
}

func (c *client) pairingCode(ctx context.Context) (code server.PairingCode, err error) {
	err = c.do(ctx, http.MethodPost, "/api/v1/pairing-code", struct{}{}, &code)
	return code, err
}

// showCode listens before it asks for the code, so that it misses nobody who is quick.
func (a *app) showCode(ctx context.Context, c *client, picture bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news, err := c.send(ctx, http.MethodGet, "/api/v1/events", nil)
	if err != nil {
		return err
	}
	defer news.Body.Close()
	code, err := c.pairingCode(ctx)
	if err != nil {
		return err
	}
	var own server.NodeState
	if err := c.do(ctx, http.MethodGet, "/api/v1/node", nil, &own); err != nil {
		return err
	}
	if err := table(a.out, [][]string{{"code", code.Code}, {"link", code.Link}}); err != nil {
		return err
	}
	if picture {
		if err := writeQR(a.out, code.Link); err != nil {
			return err
		}
	}
	a.hint("On the other machine, within two minutes: centram peer pair %s --code %s", own.Short, code.Code)
	a.hint("If that node does not know this one yet, give it the link: centram peer pair '%s'", code.Link)
	expiry := time.AfterFunc(time.Until(code.Expires), cancel)
	defer expiry.Stop()
	return a.awaitPaired(ctx, c, news)
}

func (a *app) awaitPaired(ctx context.Context, c *client, news *http.Response) error {
	paired := ""
	err := readEvents(news.Body, func(event string, data []byte) (bool, error) {
		e, err := decode[server.PeerEvent](data)
		if event == "peer" && err == nil && e.Change == "paired" {
			paired = e.ID
		}
		return paired != "", nil
	})
	if ctx.Err() != nil {
		return centram.Errorf(centram.Unavailable, "Nobody has paired in time.").WithHint("Show a new code with: centram peer code")
	}
	if err != nil {
		return err
	}
	p, err := c.peer(ctx, paired)
	if err != nil {
		return err
	}
	a.hint("Paired with %s.", peerLabel(p.Name, p.Short))
	return nil
}
