package servetest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"

	"ocikit/oci/registry/serve/exchange"
)

// start opens a session, mounts a blob, or takes a whole one. A registry may answer a mount, or a
// whole blob, by opening a session: the distribution-spec allows both.
func (g *Quirky) start(a *answer, r *http.Request, rt exchange.Route) {
	q := r.URL.Query()
	switch {
	case q.Has("mount") && g.NoMount != 0 && g.NoMount != 202:
		fail(a, g.NoMount, "UNSUPPORTED", "mount")
		return
	case q.Has("mount") && (g.NoMount != 0 || !q.Has("from")), q.Has("digest") && !q.Has("mount") && !g.SinglePost:
		r.URL.RawQuery, r.Body, r.ContentLength = "", http.NoBody, 0
	}

	a.change = g.also(a.change, func(status int, h http.Header) int {
		if status == 201 {
			if !q.Has("mount") {
				g.add(r.ContentLength)
			}
			return g.created(h)
		}

		u := &upload{repo: rt.Repo}
		g.mu.Lock()
		g.open[h.Get("Docker-Upload-Uuid")] = u
		g.mu.Unlock()
		if g.ChunkMin > 0 {
			h.Set("OCI-Chunk-Min-Length", strconv.FormatInt(g.ChunkMin, 10))
		}
		if g.ChunkMax > 0 {
			h.Set("OCI-Chunk-Max-Length", strconv.FormatInt(g.ChunkMax, 10))
		}
		g.state(h, r, h.Get("Docker-Upload-Uuid"), u, 0)
		return status
	})
	g.hand(a, r)
}

// created is the end of an upload, or of a mount.
func (g *Quirky) created(h http.Header) int {
	if g.PutStatus != 0 {
		h.Del("Content-Length")
		return g.PutStatus
	}
	return 201
}

// also makes both changes, if the answer is none that refuses.
func (g *Quirky) also(first, then func(int, http.Header) int) func(int, http.Header) int {
	return func(status int, h http.Header) int {
		if status = first(status, h); status >= 300 {
			return status
		}
		return then(status, h)
	}
}

// state sets Location and Range.
func (g *Quirky) state(h http.Header, r *http.Request, id string, u *upload, first int64) {
	path := fmt.Sprintf("/v2/%s/blobs/uploads/%s?_state=%d-a%%2Bb%%3D%%3D", u.repo, id, u.gen)
	if g.Location != nil {
		path = g.Location(r, path)
	}

	text := fmt.Sprintf("0-%d", max(u.size-1, 0))
	if g.Range != nil {
		text = g.Range(first, u.size)
	}

	h.Del("Location")
	h.Del("Range")
	if path != "" {
		h.Set("Location", path)
	}
	if text != "" {
		h.Set("Range", text)
	}
}

// session serves one open upload.
func (g *Quirky) session(a *answer, r *http.Request, rt exchange.Route) {
	g.mu.Lock()
	u := g.open[rt.Ref]
	g.mu.Unlock()
	if u != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
	}

	// A Location is good until the session changes. The state of a session may be asked for with an
	// old one.
	q := r.URL.Query()
	gen, _, _ := strings.Cut(q.Get("_state"), "-")
	if u == nil || u.repo != rt.Repo || !g.StableLocation && gen != strconv.Itoa(u.gen) && r.Method != http.MethodGet {
		g.unknown(a)
		return
	}

	// Serve is told the place where the session is: it may not take the client's word.
	q.Del("_state")
	q.Set("offset", strconv.FormatInt(u.size, 10))
	r.URL.RawQuery = q.Encode()

	first := u.size
	switch {
	case r.Method == http.MethodGet && g.NoStatus:
		fail(a, 400, "NAME_INVALID", "invalid digest")
		return
	case r.Method == http.MethodGet, r.Method == http.MethodDelete:
		first = 0
	case r.Method == http.MethodPatch && !g.NoPatch, r.Method == http.MethodPut && !(g.NoPut && r.ContentLength > 0):
		if g.refuses(a, r, rt, u) || !g.receive(a, r, rt, u) {
			return
		}
	default:
		fail(a, 405, "UNSUPPORTED", r.Method)
		return
	}

	common := a.change
	a.change = func(status int, h http.Header) int {
		status = common(status, h)
		switch {
		case status == 404:
			g.forget(rt.Ref)
		case status == 201:
			g.forget(rt.Ref)
			return g.created(h)
		case status == 416:
			g.state(h, r, rt.Ref, u, first)
		case status < 300 && r.Method == http.MethodDelete:
			g.forget(rt.Ref)
		case status < 300:
			if r.Method == http.MethodPatch {
				u.gen++
				u.size += r.ContentLength
				g.add(r.ContentLength)
			}
			g.state(h, r, rt.Ref, u, first)
			if r.Method == http.MethodPatch && g.PatchStatus != 0 {
				h.Del("Content-Length")
				return g.PatchStatus
			}
		}
		return status
	}
	g.hand(a, r)
	if r.Method == http.MethodPut && a.status < 300 {
		g.add(r.ContentLength)
	}
}

func (g *Quirky) forget(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, id)
}

func (g *Quirky) unknown(w http.ResponseWriter) {
	fail(w, cmp.Or(g.LostStatus, 404), cmp.Or(g.LostCode, exchange.CodeUploadUnknown), "")
}

// refuses answers a body that the registry does not take.
func (g *Quirky) refuses(w http.ResponseWriter, r *http.Request, rt exchange.Route, u *upload) bool {
	if g.IgnoreRange {
		r.Header.Del("Content-Range")
	}

	cr := r.Header.Get("Content-Range")
	switch {
	case len(r.TransferEncoding) > 0 || r.ContentLength < 0:
		fail(w, 411, "SIZE_INVALID", "no Content-Length")
	case r.Header.Get("Content-Type") != "application/octet-stream":
		fail(w, 415, "UNSUPPORTED", "Content-Type")
	case g.MaxBody > 0 && r.ContentLength > g.MaxBody:
		Answer(413, "<html><h1>413 Request Entity Too Large</h1></html>", "Content-Type", "text/html")(nil, w, r)
	case g.MaxChunk > 0 && cr != "" && r.ContentLength > g.MaxChunk:
		fail(w, 416, "BLOB_UPLOAD_INVALID", "request body is too large; maximum is 4.00MiB")
	case r.Method == http.MethodPut && g.PutRange && r.ContentLength > 0 && u.size > 0 && cr == "":
		g.state(w.Header(), r, rt.Ref, u, u.size)
		fail(w, 416, "RANGE_INVALID", "out of order")
	case r.Method == http.MethodPatch && g.OneStream && u.size > 0 && cr == "":
		fail(w, 400, "BLOB_UPLOAD_INVALID", "Stream uploads after first write are not allowed")
	default:
		return false
	}
	return true
}

// receive reads the body, and reports whether all of it came. Of one that broke the session keeps
// what the quirks say.
func (g *Quirky) receive(w http.ResponseWriter, r *http.Request, rt exchange.Route, u *upload) bool {
	got, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(got))
	if err == nil && int64(len(got)) == r.ContentLength {
		return true
	}

	part := r.Clone(r.Context())
	part.Method, part.Header = http.MethodPatch, http.Header{"Content-Type": {"application/octet-stream"}}
	if g.LoseSession {
		part.Method, part.Body, part.ContentLength = http.MethodDelete, http.NoBody, 0
		g.forget(rt.Ref)
	} else {
		if g.Granularity > 0 {
			got = got[:int64(len(got))/g.Granularity*g.Granularity]
		}
		part.Body, part.ContentLength = io.NopCloser(bytes.NewReader(got)), int64(len(got))
		u.size += part.ContentLength
		g.add(part.ContentLength)
	}

	// The client of the broken connection is gone, and with it the context of its request.
	g.hand(httptest.NewRecorder(), part.WithContext(context.WithoutCancel(r.Context())))
	fail(w, 400, "SIZE_INVALID", "the body ended early")
	return false
}
