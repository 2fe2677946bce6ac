package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// firstApp is where a browser that opens / is sent.
const firstApp = "/detra/"

// apps registers the web apps: each directory with an index.html at its name, and the files beside them.
func (s *Server) apps(e *echo.Echo) error {
	entries, err := fs.ReadDir(s.Web, ".")
	if err != nil {
		return fmt.Errorf("web apps: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".gz"):
		case !entry.IsDir():
			both(e, "/"+name, s.asset(name))
		case isApp(s.Web, name):
			both(e, "/"+name, func(c echo.Context) error { return c.Redirect(http.StatusFound, "/"+name+"/") })
			both(e, "/"+name+"/*", s.app(name))
		default:
			both(e, "/"+name+"/*", func(c echo.Context) error { return s.asset(path.Join(name, c.Param("*")))(c) })
		}
	}
	both(e, "/", s.root)
	return nil
}

func isApp(web fs.FS, dir string) bool {
	_, err := fs.Stat(web, path.Join(dir, "index.html"))
	return err == nil
}

// root sends a browser to the first app. Others look for an API that lives at /.
func (s *Server) root(c echo.Context) error {
	if strings.Contains(c.Request().Header.Get(echo.HeaderAccept), echo.MIMETextHTML) {
		return toApp(c)
	}
	return s.Root(c)
}

func toApp(c echo.Context) error { return c.Redirect(http.StatusFound, firstApp) }

// app serves the files of an app, and its index.html for the places inside it, which are not files.
func (s *Server) app(name string) echo.HandlerFunc {
	return func(c echo.Context) error {
		file := path.Join(name, path.Clean("/"+c.Param("*")))
		if info, err := fs.Stat(s.Web, file); err == nil && !info.IsDir() {
			return s.asset(file)(c)
		}
		if path.Ext(file) != "" {
			return echo.ErrNotFound
		}
		return s.asset(path.Join(name, "index.html"))(c)
	}
}

// hashed names are those that the build gives to files: they change whenever the content does.
var hashed = regexp.MustCompile(`(^|/)assets/.+-[A-Za-z0-9_-]{8,}\.[a-z0-9]+$`)

// asset serves one file.
func (s *Server) asset(file string) echo.HandlerFunc {
	return func(c echo.Context) error {
		content, err := fs.ReadFile(s.Web, file)
		if err != nil {
			return echo.ErrNotFound
		}
		h := c.Response().Header()
		if kind := mime.TypeByExtension(path.Ext(file)); kind != "" {
			h.Set(echo.HeaderContentType, kind)
		}
		h.Set(echo.HeaderCacheControl, "no-cache")
		if hashed.MatchString(file) {
			h.Set(echo.HeaderCacheControl, "public, max-age=31536000, immutable")
		}
		if packed, err := fs.ReadFile(s.Web, file+".gz"); err == nil {
			h.Add(echo.HeaderVary, echo.HeaderAcceptEncoding)
			if acceptsGzip(c.Request().Header.Get(echo.HeaderAcceptEncoding)) {
				h.Set(echo.HeaderContentEncoding, "gzip")
				content = packed
			}
		}
		sum := sha256.Sum256(content)
		h.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`)
		http.ServeContent(c.Response(), c.Request(), file, time.Time{}, bytes.NewReader(content))
		return nil
	}
}

// acceptsGzip reads an Accept-Encoding header. "gzip;q=0" refuses it.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		weight = strings.ReplaceAll(weight, " ", "")
		return strings.TrimRight(strings.TrimPrefix(weight, "q="), "0.") != "" || weight == ""
	}
	return false
}
