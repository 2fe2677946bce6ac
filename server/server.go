// Package server is what Centram says over HTTP: its own API below /api/v1, the web apps, and whatever other APIs are
// registered on the same port.
//
// It listens on the loopback interface unless it is given a certificate, lets nobody in whose Host or Origin header
// points elsewhere, and asks for a token for everything of its own that changes or reveals something. The answers of
// chats are generated here and not in a request, so they go on when the page that asked is closed.
package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/server/web"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// DefaultAddr is where Centram listens.
const DefaultAddr = "127.0.0.1:9740"

// Config says what a Server works with.
type Config struct {
	// Addr is the address to listen on. Empty means DefaultAddr. One that is not loopback needs TLSCert and TLSKey, and
	// then every request but those for /health needs a token.
	Addr            string
	TLSCert, TLSKey string // files in PEM form
	// Token is the permanent token. It may not be empty.
	Token string
	// AllowedHosts may stand in a Host header beside localhost and the loopback addresses, as behind a proxy.
	AllowedHosts []string
	// AllowedOrigins are pages elsewhere, such as "https://example.org", that may call the API. Empty means none.
	AllowedOrigins []string

	Engine   Engine
	Models   Models
	Chats    Chats
	Settings Settings
	// Trainings are those of this node. Nil means that it does not train.
	Trainings Trainings
	// Shelf is what can be downloaded, and Downloads is what is. Nil means that this node downloads nothing.
	Shelf     Shelf
	Downloads Downloads
	// Events brings the news of the engine and the models to listeners. Nil means that there are none but the server's.
	Events  *Events
	Version Version
	// Network is this node among others. Zero means that the network is off.
	Network Network

	// Collectors are told at /metrics beside what the server counts itself.
	Collectors []prometheus.Collector
	// Register adds other APIs. Errors says how each, by the beginning of its paths, words what the server refuses.
	Register []func(*echo.Echo)
	Errors   map[string]func(echo.Context, error) error
	// Root answers at / to whoever is not a browser. Nil means that a browser is assumed.
	Root echo.HandlerFunc
	// Web holds the apps. Nil means those built into the program.
	Web fs.FS
	// Ready says whether /health answers ok. Nil means always.
	Ready func() bool

	// SaveEvery is how often the text of an answer is saved while it is written. Zero means half a second.
	SaveEvery time.Duration
	// PingEvery is how long a stream may be silent. Zero means 15 seconds.
	PingEvery time.Duration
	// Grace is how long requests may go on after the server was told to stop. Zero means 3 seconds.
	Grace time.Duration
	Now   func() time.Time // nil means time.Now
	Rand  io.Reader        // nil means crypto/rand
	Log   *slog.Logger     // nil means slog.Default
}

func (c Config) withDefaults() Config {
	c.Addr = cmp.Or(c.Addr, DefaultAddr)
	c.SaveEvery = cmp.Or(c.SaveEvery, 500*time.Millisecond)
	c.PingEvery = cmp.Or(c.PingEvery, 15*time.Second)
	c.Grace = cmp.Or(c.Grace, 3*time.Second)
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.Events == nil {
		c.Events = NewEvents()
	}
	if c.Root == nil {
		c.Root = toApp
	}
	if c.Web == nil {
		c.Web = web.Apps()
	}
	if c.Ready == nil {
		c.Ready = func() bool { return true }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return c
}

// Server is the HTTP server. Run it once.
type Server struct {
	Config
	loopback bool
	listener net.Listener
	http     *http.Server
	echo     *echo.Echo
	sessions *sessions
	answers  *answers
	loads    *loads
	metrics  *metrics
}

// New listens, so that a port in use is known before anything else happens. It fails with centram.Invalid if the
// configuration would expose the daemon, and with centram.Conflict if the address is in use.
func New(cfg Config) (*Server, error) {
	s := &Server{Config: cfg.withDefaults()}
	if err := s.checkExposure(); err != nil {
		return nil, err
	}
	s.sessions = newSessions(s.Now, s.Rand)
	s.answers = newAnswers(s.Config)
	s.loads = &loads{base: context.Background(), engine: s.Engine, log: s.Log}
	s.metrics = newMetrics(s.Collectors)
	if err := s.buildRoutes(); err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           s.echo,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) listen() error {
	if s.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey)
		if err != nil {
			return centram.Errorf(centram.Invalid, "The certificate %s cannot be used: %w", s.TLSCert, err)
		}
		s.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	listener, err := net.Listen("tcp", s.Addr)
	if err != nil {
		return centram.Errorf(centram.Conflict, "Cannot listen on %s: %w", s.Addr, err).
			WithHint("Another Centram may be running. Stop it, or choose another address.")
	}
	s.listener = listener
	return nil
}

func (s *Server) serve() error {
	if s.http.TLSConfig != nil {
		return s.http.ServeTLS(s.listener, "", "")
	}
	return s.http.Serve(s.listener)
}

// Address is where the server listens, with the port that it got.
func (s *Server) Address() net.Addr { return s.listener.Addr() }

// Handler serves the requests without a port.
func (s *Server) Handler() http.Handler { return s.echo }

// Close frees the port of a Server that is not going to be run.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends and returns nil then. Answers under way are interrupted, with their text saved; other
// requests get the grace period.
func (s *Server) Run(ctx context.Context) error {
	defer s.listener.Close()
	switch n, err := s.Chats.Interrupt(ctx); {
	case ctx.Err() != nil: // it is to end before it has begun
		return nil
	case err != nil:
		return err
	case n > 0:
		s.Log.InfoContext(ctx, "Answers were interrupted when Centram last ended", "count", n)
	}
	s.answers.base, s.loads.base = ctx, ctx
	requests, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	s.http.BaseContext = func(net.Listener) context.Context { return requests }

	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	var failed error
	select {
	case <-ctx.Done():
	case failed = <-served:
	}
	s.shutDown(cancelRequests)
	if failed != nil && !errors.Is(failed, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.Addr, failed)
	}
	return nil
}

// shutDown ends what outlives requests, and then the requests.
func (s *Server) shutDown(cancelRequests func()) {
	s.answers.close()
	s.loads.wait()
	s.Events.close()
	ctx, cancel := context.WithTimeout(context.Background(), s.Grace)
	defer cancel()
	if err := s.http.Shutdown(ctx); err == nil {
		return
	}
	cancelRequests()
	ctx, cancel = context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}
