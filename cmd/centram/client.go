package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/server"
)

// errNoDaemon is what commands that need a daemon end with if there is none.
var errNoDaemon = centram.Errorf(centram.Unavailable, "Centram is not running.").WithHint("Start it with: centram serve")

// client talks to a daemon.
type client struct {
	url     string
	token   string // empty if the daemon does not use our data directory: it could be anybody's
	http    *http.Client
	version server.Version
}

// daemon finds the daemon of our data directory, or else one at the configured address. It fails with errNoDaemon.
func (a *app) daemon(ctx context.Context) (*client, error) {
	c, err := a.ownDaemon(ctx)
	if !errors.Is(err, errNoDaemon) {
		return c, err
	}
	c = &client{url: localURL("http", a.cfg.Listen), http: &http.Client{}}
	return c, c.greet(ctx)
}

// ownDaemon finds the daemon of our data directory, which may be told our token. It fails with errNoDaemon.
func (a *app) ownDaemon(ctx context.Context) (*client, error) {
	h, ok := findHolder(a.cfg.Data)
	if !ok {
		return nil, errNoDaemon
	}
	token, err := server.LoadToken(a.cfg.Data)
	if err != nil {
		return nil, err
	}
	c := &client{url: h.URL, token: token, http: &http.Client{}}
	if h.Cert != "" {
		c.http.Transport = &http.Transport{TLSClientConfig: trustOnly(h.Cert)}
	}
	return c, c.greet(ctx)
}

// greet finds out whether there is a daemon, and which.
func (c *client) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := c.do(ctx, http.MethodGet, "/api/v1/version", nil, &c.version)
	if _, offline := errors.AsType[*net.OpError](err); offline {
		return errNoDaemon
	}
	if err != nil || c.version.Llama == "" {
		return centram.Errorf(centram.Unavailable, "Something at %s answers, but not as Centram does.", c.url).
			WithHint("Stop what uses that port, or choose another with: centram config set listen 127.0.0.1:9750")
	}
	return nil
}

// localURL is where this machine reaches a server that listens on addr, which may be every interface.
func localURL(scheme, addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return scheme + "://" + addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// trustOnly accepts the certificate in a file and no other, whatever names it is for.
func trustOnly(file string) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // the certificate itself is compared below
		VerifyConnection: func(state tls.ConnectionState) error {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			block, _ := pem.Decode(b)
			if block == nil || !bytes.Equal(block.Bytes, state.PeerCertificates[0].Raw) {
				return errors.New("the certificate is not that of the daemon")
			}
			return nil
		},
	}
}

// do sends a request with body as JSON and decodes the answer into into. Either may be nil. An error of the daemon comes
// back as the value that it was there.
func (c *client) do(ctx context.Context, method, path string, body, into any) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read the daemon's answer to %s: %w", path, err)
	}
	return nil
}

func (c *client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, content)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, c.refusal(resp)
	}
	return resp, nil
}

// follow sends a request that is answered with server-sent events, and gives each to take, until that says that it is done
// or fails.
func (c *client) follow(ctx context.Context, method, path string, body any, take func(event string, data []byte) (done bool, err error)) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return readEvents(resp.Body, take)
}

func readEvents(r io.Reader, take func(event string, data []byte) (done bool, err error)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	event := ""
	for lines.Scan() {
		if name, ok := bytes.CutPrefix(lines.Bytes(), []byte("event: ")); ok {
			event = string(name)
		}
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if done, err := take(event, data); done || err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return centram.Errorf(centram.Unavailable, "The daemon has ended meanwhile.").WithHint("Start it again with: centram serve")
}

// refusal is the error that the daemon answered with, in its own words or in those of the OpenAI API.
func (c *client) refusal(resp *http.Response) error {
	e := &centram.Error{Code: server.CodeOfStatus(resp.StatusCode)}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	e.Message, e.Hint, e.Details = refusalText(b)
	if e.Message == "" {
		e.Message = fmt.Sprintf("The daemon answered %s.", resp.Status)
	}
	if e.Code == centram.Unauthorized && c.token == "" {
		e.Message = fmt.Sprintf("The daemon at %s keeps its data in another directory, so this command may not use it.", c.url)
		e.Hint = "Set CENTRAM_HOME or CENTRAM_DATA as it was for: centram serve"
	}
	return e
}

func refusalText(body []byte) (message, hint string, details map[string]any) {
	var said struct {
		Error struct {
			Message string         `json:"message"`
			Hint    string         `json:"hint"`
			Details map[string]any `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &said) != nil {
		return "", "", nil
	}
	return said.Error.Message, said.Error.Hint, said.Error.Details
}

func peerPath(name string) string { return "/api/v1/peers/" + url.PathEscape(name) }

func modelPath(name string) string { return "/api/v1/models/" + url.PathEscape(name) }
