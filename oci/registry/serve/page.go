package serve

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/serve/live"
	"ocikit/oci/registry/serve/page"
)

// servePage answers everything that is not the registry's API: the list of repositories at
// /, a repository at /-/repository/NAME, the stream of events, script and style.
func (s *Server) servePage(w *exchange.Recorder, r *http.Request, _ exchange.Route) error {
	w.Header().Set("Content-Security-Policy", live.Policy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	name, isRepo := strings.CutPrefix(r.URL.Path, "/-/repository/")
	switch {
	case r.URL.Path == "/":
		return s.serveHome(w, r)
	case isRepo:
		return s.serveRepository(w, r, name)
	}
	if known, err := s.feed.ServePart(w, r); known {
		return err
	}
	return exchange.Fail(http.StatusNotFound, exchange.CodeUnsupported, "no such page")
}

// Limits of the pages.
const (
	maxListed = 1000 // repositories
	maxImages = 200  // of one repository
)

func (s *Server) serveHome(w *exchange.Recorder, r *http.Request) error {
	view := page.Home{ReadOnly: s.opts.ReadOnly, Faults: s.opts.Faults}
	err := s.eachRepoRow(r.Context(), func(row page.Row) {
		if len(view.Repositories) < maxListed {
			view.Repositories = append(view.Repositories, row)
		} else {
			view.More++
		}
	})
	if err != nil {
		return err
	}
	return view.Send(w)
}

func (s *Server) eachRepoRow(ctx context.Context, add func(page.Row)) error {
	all, err := s.catalog(ctx, "", math.MaxInt)
	if err != nil {
		return err
	}
	const shown = 20
	for i, name := range all {
		row := page.Row{Name: name}
		if i < maxListed {
			s.fillRow(&row, shown)
		}
		add(row)
	}
	return nil
}

func (s *Server) fillRow(row *page.Row, shown int) {
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

	for _, e := range v.all() {
		if len(names(e)) == 0 {
			row.Untagged++
		}
	}

	row.Tags = v.allTags()
	if len(row.Tags) > shown {
		row.Tags, row.More = row.Tags[:shown], len(row.Tags)-shown
	}
}

func (s *Server) serveRepository(w *exchange.Recorder, r *http.Request, name string) error {
	if err := exchange.CheckName(name); err != nil {
		return err
	}

	l, err := s.openRepo(name)
	if err != nil {
		return err
	}
	defer l.Close()

	x, err := s.index(name, l)
	if err != nil {
		return err
	}

	// The command to pull with names the host by which the browser has found the registry.
	view := page.Repository{Name: name}
	if tags := x.allTags(); len(tags) > 0 {
		view.Pull = exchange.Plain(r.Host + "/" + name + ":" + tags[0])
		if slices.Contains(tags, "latest") {
			view.Pull = exchange.Plain(r.Host + "/" + name + ":latest")
		}
	}

	// Once the browser is gone, or enough is shown, documents are no longer read.
	for _, e := range x.all() {
		tags := names(e)
		if len(tags) == 0 {
			tags = []string{""}
		}
		for _, tag := range tags {
			if len(view.Images) == maxImages || r.Context().Err() != nil {
				view.More++
				continue
			}
			view.Images = append(view.Images, page.ImageOf(l, tag, e))
		}
	}

	return view.Send(w)
}

// note shows what became of a session.
func (s *Server) note(repo, id, text string) {
	s.feed.Add(live.Event{Time: s.opts.Now(), Repo: repo, Session: id, Text: text})
}

// uploads returns what the page shows of the open sessions.
func (s *Server) uploads() []live.Upload {
	views := []live.Upload{}
	for _, u := range s.sessions.list() {
		views = append(views, live.Upload{
			ID: u.id, Repo: u.repo, Offset: u.size.Load(), Started: u.started,
			Last: time.Unix(0, u.last.Load()).UTC(), Receiving: u.user.Load() != nil,
		})
	}
	return views
}
