package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/centram/centram"
)

const maxHops = 5

// follow gets an address and where it redirects to. The last one is kept for the next time.
func (h *Hub) follow(ctx context.Context, f File, at *url.URL, header http.Header) (*http.Response, error) {
	for range maxHops + 1 {
		resp, err := h.do(ctx, http.MethodGet, at, header)
		if err != nil {
			return nil, h.unreachable(err)
		}
		if !redirects(resp.StatusCode) {
			if resp.StatusCode < 300 && at.Host != h.base.Host {
				h.mu.Lock()
				h.links[f] = at
				h.mu.Unlock()
			}
			return resp, nil
		}
		resp.Body.Close()
		if at, err = h.location(resp); err != nil {
			return nil, err
		}
	}
	return nil, centram.Errorf(centram.Unavailable, "The hub redirects in a circle.").WithHint("Try again later.")
}

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// location is where an answer redirects to. From an encrypted connection it must not lead to a plain one.
func (h *Hub) location(resp *http.Response) (*url.URL, error) {
	to, err := resp.Location()
	if err == nil && (to.Scheme != "https" && to.Scheme != "http" || to.Host == "" || to.User != nil) {
		err = errors.New("no address of the web")
	}
	if err == nil && h.base.Scheme == "https" && to.Scheme == "http" {
		err = errors.New("it is not encrypted")
	}
	if err != nil {
		return nil, centram.Errorf(centram.Unavailable, "The hub redirects to where nobody can go: %w.", err).WithHint("Try again later.")
	}
	return to, nil
}

// do asks one server. Only the hub itself gets the token.
func (h *Hub) do(ctx context.Context, method string, at *url.URL, header http.Header) (*http.Response, error) {
	if h.cfg.Offline {
		return nil, errOffline
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "centram")
	if h.cfg.Token != "" && at.Scheme == h.base.Scheme && at.Host == h.base.Host {
		req.Header.Set("Authorization", "Bearer "+h.cfg.Token)
	}
	return h.client.Do(req)
}

var errOffline = errors.New("HF_HUB_OFFLINE is set")

// unreachable says why there was no answer, so that a person knows what to do.
func (h *Hub) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	out := centram.Errorf(centram.Unavailable, "%s cannot be reached: %w.", h.base.Host, plain(err))
	var unknown x509.UnknownAuthorityError
	var verification *tls.CertificateVerificationError
	var dns *net.DNSError
	switch {
	case errors.Is(err, errOffline):
		return out.WithHint("Unset it to download.")
	case errors.As(err, &unknown), errors.As(err, &verification):
		return out.WithHint("Somebody between here and there answers in its place. Is the clock right? Is there a proxy whose certificate has to be installed?")
	case errors.As(err, &dns):
		return out.WithHint("Is this machine online? A proxy is set by HTTPS_PROXY, a mirror of the hub by HF_ENDPOINT.")
	}
	return out.WithHint("Try again later. A proxy is set by HTTPS_PROXY, a mirror of the hub by HF_ENDPOINT.")
}

// plain is an error without the address, which may be a signed one that nobody else should have.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// Busy is how long a server asks to be left alone; it is a cause of errors that say so.
type Busy struct{ For time.Duration }

func (b Busy) Error() string { return "the server asks to wait" }

// refused says what a status means.
func (h *Hub) refused(resp *http.Response, f File) error {
	status := resp.StatusCode
	if resp.Request.URL.Host != h.base.Host { // the hub has given it; it is the link that is not good
		if status == http.StatusTooManyRequests || status >= 500 {
			return busy(resp, "the host that has "+f.String())
		}
		return centram.Errorf(centram.Unavailable, "The host that has %s does not give it (status %d).", f, status).WithHint("Try again later.")
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		if h.cfg.Token == "" {
			return centram.Errorf(centram.Unauthorized, "%s does not give %s to everybody (status %d).", h.base.Host, f, status).
				WithHint("Does it exist? If it does, accept its terms on https://%s/%s, and set HF_TOKEN to a token of your account.", h.base.Host, f.Repo)
		}
		return centram.Errorf(centram.Forbidden, "%s does not give %s to the owner of this token (status %d).", h.base.Host, f, status).
			WithHint("Accept its terms on https://%s/%s with the same account, or set another HF_TOKEN.", h.base.Host, f.Repo)
	case http.StatusNotFound, http.StatusGone:
		return centram.Errorf(centram.NotFound, "%s has no file %s at %s.", h.base.Host, f, f.Revision).
			WithHint("It may have been renamed. See https://%s/%s", h.base.Host, f.Repo)
	}
	return busy(resp, h.base.Host)
}

// busy says that a server has too much to do, or trouble of its own.
func busy(resp *http.Response, who string) error {
	err := centram.Errorf(centram.Unavailable, "%s answers with status %d", who, resp.StatusCode)
	err.Err = Busy{retryAfter(resp)}
	return err.WithHint("Try again later.")
}

// retryAfter is how long the server asks to wait, at most some minutes.
func retryAfter(resp *http.Response) time.Duration {
	s := resp.Header.Get("Retry-After")
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return min(time.Duration(n)*time.Second, 5*time.Minute)
	}
	if at, err := http.ParseTime(s); err == nil {
		return min(max(time.Until(at), 0), 5*time.Minute)
	}
	return 0
}

// Listed is a file of a repository as the hub lists it.
type Listed struct {
	Path   string
	Size   int64
	SHA256 string // empty for small files
}

// maxTree bounds what a hub may send as a list.
const maxTree = 8 << 20

// Tree lists the files of a repository.
func (h *Hub) Tree(ctx context.Context, repo, revision string) ([]Listed, error) {
	at := h.base.JoinPath("api", "models", repo, "tree", revision)
	at.RawQuery = "recursive=true"
	f := File{Repo: repo, Revision: revision}
	resp, err := h.follow(ctx, f, at, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, h.refused(resp, f)
	}
	var list []struct {
		Type string `json:"type"`
		Path string `json:"path"`
		Size int64  `json:"size"`
		LFS  *struct {
			OID  string `json:"oid"`
			Size int64  `json:"size"`
		} `json:"lfs"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxTree)).Decode(&list); err != nil {
		return nil, centram.Errorf(centram.Unavailable, "The list of files of %s cannot be read: %w.", repo, err).WithHint("Try again later.")
	}
	var out []Listed
	for _, e := range list {
		if e.Type != "file" {
			continue
		}
		l := Listed{Path: e.Path, Size: e.Size}
		if e.LFS != nil {
			l.SHA256, l.Size = e.LFS.OID, e.LFS.Size
		}
		out = append(out, l)
	}
	return out, nil
}
