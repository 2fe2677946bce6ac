package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/server/wire"
	"github.com/labstack/echo/v4"
)

// foreign registers an API as packages openai and ollama do.
func foreign(c *Config) {
	c.Register = []func(*echo.Echo){func(e *echo.Echo) {
		e.GET("/v1/models", func(c echo.Context) error { return c.String(200, "models") })
		e.POST("/v1/chat/completions", func(c echo.Context) error {
			body, err := io.ReadAll(c.Request().Body)
			if err != nil {
				return err
			}
			return c.String(200, string(body[:min(len(body), 100)]))
		})
		e.GET("/v1/panic", func(echo.Context) error { panic("secret detail") })
		e.GET("/v1/fail", func(echo.Context) error { return errBoom })
		e.POST("/api/chat", func(c echo.Context) error { return c.String(200, "ollama") })
	}}
	c.Errors = map[string]func(echo.Context, error) error{
		"/v1": func(c echo.Context, err error) error {
			return c.String(wire.StatusOf(centram.CodeOf(err)), "openai: "+textOf(err))
		},
		"/api": func(c echo.Context, err error) error {
			return c.String(wire.StatusOf(centram.CodeOf(err)), "ollama: "+textOf(err))
		},
	}
}

func TestHostsElsewhereAreRefused(t *testing.T) {
	n := start(t, func(c *Config) { foreign(c); c.AllowedHosts = []string{"My-Box.lan"} })
	port := n.url[strings.LastIndex(n.url, ":"):]
	for host, want := range map[string]int{
		"localhost" + port: 200, "LOCALHOST": 200, "127.0.0.1": 200, "127.9.8.7" + port: 200, "[::1]" + port: 200, "[::1]": 200,
		"my-box.lan" + port: 200, "my-box.LAN": 200, "localhost:1": 200,
		"evil.example" + port: 403, "evil.example": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403,
		"0.0.0.0" + port: 403, "192.168.1.2": 403, "[::]" + port: 403, "my-box.lan.evil": 403, "[fe80::1]": 403, "127.1": 403,
	} {
		for _, path := range []string{"/health", "/api/v1/models", "/v1/models", "/detra/"} {
			if got := n.do(n.request("GET", path, nil, "Host", host)).status; got != want {
				t.Errorf("Host %s, %s: got %d, want %d", host, path, got, want)
			}
		}
	}
}

func TestPagesElsewhereChangeNothing(t *testing.T) {
	n := start(t, func(c *Config) { foreign(c); c.AllowedOrigins = []string{"https://friend.example"} })
	for _, row := range []struct {
		origin, site string
		want         int
	}{
		{"", "", 201},
		{n.url, "", 201},
		{n.url, "same-origin", 201},
		{"", "same-origin", 201},
		{"", "none", 201},
		{"https://friend.example", "cross-site", 201},
		{"https://evil.example", "cross-site", 403},
		{"https://evil.example", "", 403},
		{"null", "", 403},
		{"null", "same-origin", 403},
		{"", "cross-site", 403},
		{"", "same-site", 403},
		{"https://evil.example", "same-origin", 403},
		{strings.Replace(n.url, "http:", "https:", 1), "", 403},
		{"http://127.0.0.1:1", "", 403},
		{"http://localhost", "same-site", 403},
	} {
		got := n.do(n.request("POST", "/api/v1/chats", strings.NewReader(`{}`), "Origin", row.origin, "Sec-Fetch-Site", row.site))
		if got.status != row.want {
			t.Errorf("Origin %q, Sec-Fetch-Site %q: got %d, want %d", row.origin, row.site, got.status, row.want)
		}
		if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != "" && allowed != "https://friend.example" {
			t.Errorf("Origin %q: pages there may read our answers: %q", row.origin, allowed)
		}
		r := n.request("POST", "/v1/chat/completions", strings.NewReader(`{}`), "Origin", row.origin, "Sec-Fetch-Site", row.site)
		if got := n.do(r).status; (got == 200) != (row.want == 201) {
			t.Errorf("inference, Origin %q, Sec-Fetch-Site %q: got %d", row.origin, row.site, got)
		}
	}
	plain := start(t, nil)
	got := plain.do(plain.request("GET", "/api/v1/version", nil, "Origin", "https://friend.example"))
	if h := got.header.Get("Access-Control-Allow-Origin"); h != "" {
		t.Errorf("without allowed origins: got %q", h)
	}
}

func TestBodiesMustBeJSON(t *testing.T) {
	n := start(t, foreign)
	for _, row := range []struct {
		path, kind, origin string
		want               int
	}{
		{"/api/v1/chats", "application/json", "", 201},
		{"/api/v1/chats", "application/json; charset=utf-8", "", 201},
		{"/api/v1/chats", "text/plain", "", 415},
		{"/api/v1/chats", "application/x-www-form-urlencoded", "", 415},
		{"/api/v1/chats", "", "", 415},
		{"/api/v1/chats", "multipart/form-data; boundary=x", "", 415},
		{"/api/v1/chats", "json", "", 415},
		{"/api/chat", "application/x-www-form-urlencoded", "", 200},
		{"/api/chat", "", "", 200},
		{"/api/chat", "text/plain", n.url, 415},
		{"/v1/chat/completions", "text/plain", n.url, 415},
	} {
		r := n.request("POST", row.path, strings.NewReader(`{}`), "Content-Type", row.kind, "Origin", row.origin)
		if got := n.do(r); got.status != row.want {
			t.Errorf("%s as %q: got %d, want %d: %s", row.path, row.kind, got.status, row.want, got.body)
		}
	}
}

func TestTokensGuardWhatIsOurs(t *testing.T) {
	n := start(t, foreign)
	sessionReply := n.send(201, "POST", "/api/v1/session", `{}`, "Authorization", "", "Sec-Fetch-Site", "same-origin")
	session := as[struct {
		Token     string    `json:"token"`
		ExpiresAt time.Time `json:"expires_at"`
	}](t, sessionReply)
	if left := time.Until(session.ExpiresAt); left < 11*time.Hour || left > 12*time.Hour {
		t.Errorf("the session ends in %s, want 12 hours", left)
	}
	for header, ok := range map[string]bool{
		"": false, "Bearer " + testToken: true, "bearer " + testToken: true, "Bearer " + session.Token: true, "Bearer": false,
		"Bearer wrong": false, "Basic " + testToken: false, testToken: false, "Bearer " + testToken[1:]: false, "Bearer  ": false,
	} {
		for path, open := range map[string]bool{
			"/health": true, "/api/v1/health": true, "/v1/health": true, "/api/v1/version": true, "/api/v1/openapi.json": true,
			"/v1/models": true, "/detra/": true, "/api/v1/models": false, "/api/v1/chats": false, "/api/v1/settings": false,
			"/api/v1/ps": false, "/metrics": false, "/api/v1/nothing": false, "/api/v1": false, "/api/v1/chats/x": false,
		} {
			got := n.do(n.request("GET", path, nil, "Authorization", header))
			if (got.status != 401) != (open || ok) {
				t.Errorf("%s with %q: got %d", path, header, got.status)
			}
			if got.status == 401 && (got.header.Get("WWW-Authenticate") != "Bearer" || got.code(t) != centram.Unauthorized) {
				t.Errorf("%s: got %v %s", path, got.header, got.body)
			}
		}
	}
	for _, row := range []struct{ method, path string }{
		{"POST", "/api/v1/models/import"},
		{"DELETE", "/api/v1/models/toy"},
		{"POST", "/api/v1/models/toy/load"},
		{"POST", "/api/v1/models/toy/unload"},
		{"PUT", "/api/v1/settings"},
		{"POST", "/api/v1/chats"},
		{"GET", "/api/v1/events"},
		{"DELETE", "/api/v1/chats/x"},
		{"GET", "/api/v1/chats/x/messages/y/stream"},
		{"POST", "/api/v1/../v1/chats"},
		{"GET", "/api/v1/%63hats"},
	} {
		if got := n.do(n.request(row.method, row.path, nil, "Authorization", "")).status; got != 401 {
			t.Errorf("%s %s without a token: got %d, want 401", row.method, row.path, got)
		}
	}
}

// endless is a body of which somebody counts how much is read.
type endless struct {
	left int64
	mu   sync.Mutex
	read int64
}

func (e *endless) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.read >= e.left {
		return 0, io.EOF
	}
	for i := range p {
		p[i] = ' '
	}
	e.read += int64(len(p))
	return len(p), nil
}

func TestLargeBodiesAreNotRead(t *testing.T) {
	n := start(t, foreign)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, announced := range []bool{true, false} {
		for path, limit := range map[string]int64{
			"/api/v1/chats": 64 << 10, "/api/v1/chats/x/messages": 4 << 20, "/v1/chat/completions": 32 << 20,
		} {
			body := &endless{left: 300 << 20}
			r := n.request("POST", path, body)
			if announced {
				r.ContentLength = body.left
			}
			response, err := n.client.Do(r)
			if err == nil {
				if response.StatusCode != 413 {
					t.Errorf("%s: got %d, want 413", path, response.StatusCode)
				}
				response.Body.Close()
			} else if announced { // the connection may be cut while the client still sends
				t.Logf("%s: %v", path, err)
			}
			body.mu.Lock()
			if body.read > limit+16<<20 { // what the sockets hold
				t.Errorf("%s: %d bytes were taken, the limit is %d", path, body.read, limit)
			}
			body.mu.Unlock()
		}
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 200<<20 {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
	over := n.do(n.request("POST", "/api/v1/chats", strings.NewReader(`{"title":"`+strings.Repeat("x", 65<<10)+`"}`)))
	if over.status != 413 || over.code(t) != centram.TooLarge {
		t.Errorf("got %d %s", over.status, over.body)
	}
	n.send(200, "POST", "/v1/chat/completions", strings.Repeat(" ", 31<<20))
}

func TestEveryAnswerHasTheHeaders(t *testing.T) {
	n := start(t, foreign)
	for _, path := range []string{"/", "/health", "/detra/", "/api/v1/models", "/api/v1/nothing", "/v1/models", "/nothing", "/v1/panic"} {
		got := n.do(n.request("GET", path, nil))
		for name, want := range securityHeaders {
			if h := got.header.Get(name); h != want {
				t.Errorf("%s: %s: got %q, want %q", path, name, h, want)
			}
		}
	}
	if got := n.do(n.request("GET", "/health", nil, "Host", "evil")); got.header.Get("X-Frame-Options") != "DENY" {
		t.Error("a refused request lacks the headers")
	}
}

func TestErrorsKeepTheirSecretsAndTheirWording(t *testing.T) {
	var log bytes.Buffer
	n := start(t, func(c *Config) {
		foreign(c)
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for _, row := range []struct {
		method, path string
		want         int
		body         string
	}{
		{"GET", "/v1/panic", 500, "openai: Something went wrong"},
		{"GET", "/v1/fail", 500, "openai: Something went wrong"},
		{"GET", "/v1/nothing", 404, "openai: There is nothing at /v1/nothing."},
		{"GET", "/api/nothing", 404, "ollama: "},
		{"GET", "/api/v1/nothing", 404, `{"error":{"code":"not_found"`},
		{"GET", "/nothing", 404, `{"error":{"code":"not_found"`},
		{"DELETE", "/api/v1/chats", 405, `{"error":{"code":"unsupported"`},
		{"GET", "/api/v10", 404, "ollama: "},
		{"GET", "/detra/x.js", 404, `{"error":{"code":"not_found"`},
	} {
		got := n.do(n.request(row.method, row.path+"?secret=query", nil))
		if got.status != row.want || !strings.HasPrefix(string(got.body), row.body) || strings.Contains(string(got.body), "secret") {
			t.Errorf("%s %s: got %d %s, want %d %s", row.method, row.path, got.status, got.body, row.want, row.body)
		}
	}
	n.send(415, "POST", "/v1/chat/completions", `{}`, "Content-Type", "text/plain", "Origin", n.url)
	n.stop()
	if strings.Contains(log.String(), "secret=query") || !strings.Contains(log.String(), "secret detail") {
		t.Errorf("the log should hold causes and no queries:\n%s", log.String())
	}
}

func TestExposureIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*Config)
		want   centram.Code
	}{
		"all interfaces":   {func(c *Config) { c.Addr = ":0" }, centram.Invalid},
		"unspecified":      {func(c *Config) { c.Addr = "0.0.0.0:0" }, centram.Invalid},
		"unspecified IPv6": {func(c *Config) { c.Addr = "[::]:0" }, centram.Invalid},
		"no token":         {func(c *Config) { c.Token = "" }, centram.Invalid},
		"half TLS":         {func(c *Config) { c.TLSCert = "x" }, centram.Invalid},
		"bad certificate":  {func(c *Config) { c.TLSCert, c.TLSKey = "x", "y" }, centram.Invalid},
		"any origin":       {func(c *Config) { c.AllowedOrigins = []string{"*"} }, centram.Invalid},
		"no address":       {func(c *Config) { c.Addr = "nonsense" }, centram.Invalid},
	} {
		cfg := Config{Addr: "127.0.0.1:0", Token: testToken}
		row.change(&cfg)
		s, err := New(cfg)
		if got := centram.CodeOf(err); got != row.want {
			t.Errorf("%s: got %q (%v), want %q", name, got, err, row.want)
		}
		if s != nil {
			s.Close()
		}
	}
	taken := start(t, nil)
	_, err := New(Config{Addr: strings.TrimPrefix(taken.url, "http://"), Token: testToken})
	if centram.CodeOf(err) != centram.Conflict || centram.HintOf(err) == "" {
		t.Errorf("a port in use: got %v", err)
	}
}

func TestOffLoopbackEverythingNeedsAToken(t *testing.T) {
	cert, key := certificate(t)
	n := start(t, func(c *Config) { foreign(c); c.Addr, c.TLSCert, c.TLSKey = "0.0.0.0:0", cert, key })
	_, port, err := net.SplitHostPort(strings.TrimPrefix(n.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	n.url = "https://127.0.0.1:" + port
	n.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	for path, open := range map[string]bool{
		"/health": true, "/api/v1/health": true, "/v1/health": true, "/api/v1/version": false, "/api/v1/openapi.json": false,
		"/v1/models": false, "/detra/": false, "/": false, "/nothing": false, "/api/v1/models": false, "/metrics": false,
	} {
		if got := n.do(n.request("GET", path, nil, "Authorization", "")).status; (got != 401) != open {
			t.Errorf("%s without a token: got %d", path, got)
		}
		if got := n.do(n.request("GET", path, nil, "Host", "any.name")).status; got == 401 || got == 403 {
			t.Errorf("%s with a token: got %d", path, got)
		}
	}
	ours := []string{"Sec-Fetch-Site", "same-origin"}
	n.send(401, "POST", "/api/v1/session", `{}`, append(ours, "Authorization", "")...)
	n.send(201, "POST", "/api/v1/session", `{}`, ours...)
	plain := n.request("GET", "/api/v1/models", nil)
	plain.URL.Scheme = "http"
	if got, err := n.client.Do(plain); err == nil {
		if got.StatusCode == 200 {
			t.Error("the API answers without TLS")
		}
		got.Body.Close()
	}
}

// certificate makes one for a test and returns its files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestSlowClientsAreGivenUp(t *testing.T) {
	n := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(n.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /health HTTP/1.1\r\nX-Long: "+strings.Repeat("a", 80<<10)); err != nil {
		t.Logf("cut while sending: %v", err)
	}
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 431") {
		t.Errorf("80 KB of headers: got %.40q, want 431", answer)
	}
}
