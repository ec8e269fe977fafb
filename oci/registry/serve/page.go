package serve

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"net/http"
	"strings"
)

// The web page: templates, script and style. Nothing comes from elsewhere.
//
//go:embed assets
var assets embed.FS

// policy keeps whatever might slip into a page from doing anything.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// servePage answers everything that is not the registry's API: the list of repositories at
// /, a repository at /-/repository/NAME, the stream of events, script and style.
func (s *Server) servePage(w *recorder, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return fail(http.StatusMethodNotAllowed, codeUnsupported, "method %s: this path takes GET, HEAD", quote(r.Method))
	}
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	name, isRepo := strings.CutPrefix(r.URL.Path, "/-/repository/")
	switch {
	case r.URL.Path == "/":
		return s.serveHome(w, r)
	case isRepo:
		return s.serveRepository(w, r, name)
	case r.URL.Path == "/-/events":
		return s.serveEvents(w, r)
	case r.URL.Path == "/-/app.js":
		return serveAsset(w, "text/javascript; charset=utf-8", "app.js")
	case r.URL.Path == "/-/style.css":
		return serveAsset(w, "text/css; charset=utf-8", "style.css")
	}
	return fail(http.StatusNotFound, codeUnsupported, "no such page")
}

func serveAsset(w *recorder, mediaType, name string) error {
	data, err := assets.ReadFile("assets/" + name)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "no-cache")
	_, err = w.Write(data)
	return err
}

// render sends a page whole or not at all.
func render(w *recorder, name string, data any) error {
	t, err := template.New("").Funcs(template.FuncMap{"bytes": humanBytes}).ParseFS(assets, "assets/*.html")
	if err != nil {
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

// maxListed is how many repositories the page lists.
const maxListed = 1000

type homeView struct {
	Repositories []repoRow
	More         int // repositories that are not listed
	ReadOnly     bool
	Faults       []string
}

type repoRow struct {
	Name, Problem string
	Tags          []string
	More          int // tags that are not listed
	Untagged      int
}

func (s *Server) serveHome(w *recorder, r *http.Request) error {
	view := homeView{ReadOnly: s.opts.ReadOnly, Faults: s.opts.Faults}
	err := s.eachRepoRow(r.Context(), func(row repoRow) {
		if len(view.Repositories) < maxListed {
			view.Repositories = append(view.Repositories, row)
		} else {
			view.More++
		}
	})
	if err != nil {
		return err
	}
	return render(w, "home.html", view)
}

func (s *Server) eachRepoRow(ctx context.Context, add func(repoRow)) error {
	all, err := s.catalog(ctx)
	if err != nil {
		return err
	}
	const shown = 20
	for i, name := range all {
		row := repoRow{Name: name}
		if i < maxListed {
			s.fillRow(&row, shown)
		}
		add(row)
	}
	return nil
}

func (s *Server) fillRow(row *repoRow, shown int) {
	l, err := s.openRepo(row.Name)
	if err != nil {
		row.Problem = "it cannot be opened"
		return
	}
	defer l.Close()
	v, err := s.index(row.Name, l)
	if err != nil {
		row.Problem = "index.json cannot be read"
		return
	}
	for _, e := range v.entries {
		if len(names(e)) == 0 {
			row.Untagged++
		}
	}
	row.Tags = v.tags
	if len(row.Tags) > shown {
		row.Tags, row.More = row.Tags[:shown], len(row.Tags)-shown
	}
}
