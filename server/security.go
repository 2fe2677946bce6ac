package server

import (
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/centram/centram"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// checkExposure refuses a configuration that would let strangers in.
func (s *Server) checkExposure() error {
	addr, err := net.ResolveTCPAddr("tcp", s.Addr)
	if err != nil {
		return centram.Errorf(centram.Invalid, "%q is no address to listen on: %w", s.Addr, err).
			WithHint("Give it as host:port, such as %s.", DefaultAddr)
	}
	s.loopback = addr.IP.IsLoopback()
	if s.Token == "" {
		return centram.Errorf(centram.Invalid, "The server needs a token.")
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return centram.Errorf(centram.Invalid, "A certificate and a key belong together, but only one is given.")
	}
	if !s.loopback && s.TLSCert == "" {
		return centram.Errorf(centram.Invalid, "Others could reach %s, so it needs a TLS certificate and key.", s.Addr).
			WithHint("Give both, or listen on %s.", DefaultAddr)
	}
	for _, origin := range s.AllowedOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || origin != u.Scheme+"://"+u.Host {
			return centram.Errorf(centram.Invalid, "%q is no origin.", origin).WithHint("Write it as https://example.org.")
		}
	}
	return nil
}

var securityHeaders = map[string]string{
	"Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; " +
		"frame-ancestors 'none'; form-action 'self'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
}

func protect(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		for name, value := range securityHeaders {
			c.Response().Header().Set(name, value)
		}
		return next(c)
	}
}

// checkHost keeps a page elsewhere from reaching us under a name of its own (DNS rebinding). Off loopback our names are
// not known, but there every request needs a token.
func (s *Server) checkHost(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.loopback && !s.hostAllowed(c.Request().Host) {
			return centram.Errorf(centram.Forbidden, "The host %q is not this computer.", c.Request().Host).
				WithHint("Open http://%s, or allow the host in the configuration.", s.Addr)
		}
		return next(c)
	}
}

func (s *Server) hostAllowed(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback() {
		return true
	}
	return slices.ContainsFunc(s.AllowedHosts, func(allowed string) bool { return strings.EqualFold(allowed, host) })
}

// checkOrigin keeps pages elsewhere from changing anything here with the visitor's help.
func (s *Server) checkOrigin() (echo.MiddlewareFunc, error) {
	guard := http.NewCrossOriginProtection()
	for _, origin := range s.AllowedOrigins {
		if err := guard.AddTrustedOrigin(origin); err != nil {
			return nil, err
		}
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			if err := guard.Check(r); err != nil || unsafe(r.Method) && !s.originAllowed(r) {
				return centram.Errorf(centram.Forbidden, "Pages of other sites may not do this.")
			}
			return next(c)
		}
	}, nil
}

func unsafe(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

func (s *Server) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || origin == ownOrigin(r) || slices.Contains(s.AllowedOrigins, origin)
}

func ownOrigin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// sameOrigin reports whether the request comes from a page of ours, as far as a browser vouches for it.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	return r.Header.Get("Origin") == ownOrigin(r)
}

// cors lets the pages of allowed origins read our answers.
func (s *Server) cors() echo.MiddlewareFunc {
	return middleware.CORSWithConfig(middleware.CORSConfig{
		Skipper:      func(echo.Context) bool { return len(s.AllowedOrigins) == 0 },
		AllowOrigins: s.AllowedOrigins,
		AllowMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowHeaders: []string{echo.HeaderAuthorization, echo.HeaderContentType},
		MaxAge:       600,
	})
}

// health may be asked by anybody, public by anybody on this computer.
var (
	health = []string{"/health", nativePrefix + "/health", "/v1/health"}
	public = []string{nativePrefix + "/version", nativePrefix + "/openapi.json", sessionPath}
)

// authorize asks for a token: on loopback for our own API, elsewhere for everything.
func (s *Server) authorize(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.needsToken(c) && !s.tokenValid(c.Request()) {
			return centram.Errorf(centram.Unauthorized, "This needs a token.").
				WithHint("Send the one in the file token of the data directory, as Authorization: Bearer TOKEN.")
		}
		if c.Path() == sessionPath && !sameOrigin(c.Request()) {
			return centram.Errorf(centram.Forbidden, "Only a page of this server may open a session.")
		}
		return next(c)
	}
}

func (s *Server) needsToken(c echo.Context) bool {
	path := c.Path() // of the route, so that no spelling of a URL gets around
	if slices.Contains(health, path) {
		return false
	}
	if !s.loopback {
		return true
	}
	own := native(c) || path == metricsPath
	return own && !slices.Contains(public, path)
}

// native reports whether the request is for our own API.
func native(c echo.Context) bool {
	return below(c.Path(), nativePrefix) || below(c.Request().URL.Path, nativePrefix)
}

func (s *Server) tokenValid(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	token = strings.TrimSpace(token)
	return sameToken(token, s.Token) || s.sessions.knows(token)
}

// checkContentType refuses bodies that a form of another site could send. Clients of the other APIs that are no browsers
// may leave the type out, as the examples of Ollama do.
func checkContentType(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		browser := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
		if r.ContentLength == 0 || !unsafe(r.Method) || !browser && !native(c) {
			return next(c)
		}
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err == nil && kind == echo.MIMEOctetStream && c.Path() == trainingFilesPath {
			return next(c) // no form can send that either
		}
		if err != nil || kind != echo.MIMEApplicationJSON {
			return &statusError{
				centram.Errorf(centram.Invalid, "The body must be JSON.").WithHint("Send it with Content-Type: application/json."),
				http.StatusUnsupportedMediaType,
			}
		}
		return next(c)
	}
}
