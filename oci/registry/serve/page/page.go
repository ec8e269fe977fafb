// Package page makes the web pages of a registry: the list of its repositories, and the images of
// one with their sizes. What happens in the registry meanwhile is shown by package live, which
// the pages include.
package page

import (
	"embed"
	"html/template"

	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/serve/live"
)

// The templates of the web page.
//
//go:embed assets
var assets embed.FS

// Home is what the first page shows: the repositories.
type Home struct {
	Repositories []Row
	More         int // repositories that are not listed
	ReadOnly     bool
	Faults       []string
}

// A Row is one repository of [Home].
type Row struct {
	Name, Problem string
	Tags          []string
	More          int // tags that are not listed
	Untagged      int
}

// Send answers with the page.
func (h Home) Send(w *exchange.Recorder) error { return send(w, "home.html", h) }

// Send answers with the page.
func (v Repository) Send(w *exchange.Recorder) error { return send(w, "repository.html", v) }

func send(w *exchange.Recorder, name string, data any) error {
	return live.Send(w, assets, template.FuncMap{"bytes": humanBytes}, name, data)
}
