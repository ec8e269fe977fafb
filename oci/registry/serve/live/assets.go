// Package live is the part of a web page that shows what happens in a server: the uploads that are
// open and the last requests, as a stream of server-sent events.
//
// [New] makes the [Feed] that events are added to. [Send] sends a page with the section "live", and
// [Feed.ServePart] answers the requests that the section makes.
package live

import (
	"bytes"
	"embed"
	"html/template"
	"io/fs"
	"net/http"

	"ocikit/oci/registry/serve/exchange"
)

// Script, style, and the part of a page that shows what happens. Nothing comes from elsewhere.
//
//go:embed assets
var assets embed.FS

// Policy is the Content-Security-Policy of pages. It keeps whatever might slip into a page from doing anything.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// NoPolicy is that of answers which are not pages: nothing in them may do anything.
const NoPolicy = "default-src 'none'; frame-ancestors 'none'; sandbox"

// Send answers with a page, whole or not at all: one of the templates in the folder assets of files,
// which may use "live", the section with uploads and requests.
func Send(w *exchange.Recorder, files fs.FS, funcs template.FuncMap, name string, data any) error {
	t, err := template.New("").Funcs(funcs).ParseFS(assets, "assets/*.html")
	if err != nil {
		return err
	}
	if t, err = t.ParseFS(files, "assets/*.html"); err != nil {
		return err
	}

	var page bytes.Buffer
	if err := t.ExecuteTemplate(&page, name, data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(page.Bytes())
	return err
}

// ServePart answers a request for what every page with the section needs: the stream of
// events, the script and the style. It reports whether the path is one of theirs.
func (f *Feed) ServePart(w *exchange.Recorder, r *http.Request) (known bool, err error) {
	switch r.URL.Path {
	case "/-/events":
		return true, f.serve(w, r)
	case "/-/app.js":
		return true, serveAsset(w, "text/javascript; charset=utf-8", "app.js")
	case "/-/style.css":
		return true, serveAsset(w, "text/css; charset=utf-8", "style.css")
	}
	return false, nil
}

func serveAsset(w *exchange.Recorder, mediaType, name string) error {
	data, err := assets.ReadFile("assets/" + name)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "no-cache")
	_, err = w.Write(data)
	return err
}
