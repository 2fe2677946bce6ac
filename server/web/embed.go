// Package web holds the built web apps.
package web

import (
	"embed"
	"io/fs"
)

// dist is filled by the web build, which needs Node. Without it there is only .keep, and the stub takes its place.
//
//go:embed all:dist
var dist embed.FS

//go:embed stub
var stub embed.FS

// Apps returns the apps that were built, or a page that says how to build them.
func Apps() fs.FS {
	if apps := below(dist, "dist"); built(apps) {
		return apps
	}
	return Stub()
}

// Stub returns the page that says how to build the apps.
func Stub() fs.FS { return below(stub, "stub") }

func built(apps fs.FS) bool {
	found, err := fs.Glob(apps, "*/index.html")
	return err == nil && len(found) > 0
}

func below(files fs.FS, dir string) fs.FS {
	sub, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // the name is one of the two above
	}
	return sub
}
