package regtest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"ocikit/digest"
)

// start opens a session, mounts a blob, or takes a whole one.
func (g *Registry) start(w http.ResponseWriter, r *http.Request, repo string) {
	q := r.URL.Query()
	if name := q.Get("mount"); name != "" {
		g.mu.Lock()
		data, ok := g.blobs[q.Get("from")+"@"+name]
		if ok && g.NoMount == 0 {
			g.blobs[repo+"@"+name] = data
		}
		g.mu.Unlock()
		switch {
		case g.NoMount != 0 && g.NoMount != 202:
			fail(w, g.NoMount, "UNSUPPORTED", "mount")
			return
		case ok && g.NoMount == 0:
			g.created(w, repo, name)
			return
		}
	} else if name := q.Get("digest"); name != "" && g.SinglePost {
		data, err := io.ReadAll(r.Body)
		d, perr := digest.Parse(name)
		if err != nil || perr != nil || digestOf(d, data) != d {
			fail(w, 400, "DIGEST_INVALID", name)
			return
		}
		g.mu.Lock()
		g.blobs[repo+"@"+name] = data
		g.taken += int64(len(data))
		g.mu.Unlock()
		g.created(w, repo, name)
		return
	}
	id := newID()
	u := &upload{repo: repo}
	g.mu.Lock()
	g.uploads[id] = u
	g.mu.Unlock()
	if g.ChunkMin > 0 {
		w.Header().Set("OCI-Chunk-Min-Length", strconv.FormatInt(g.ChunkMin, 10))
	}
	if g.ChunkMax > 0 {
		w.Header().Set("OCI-Chunk-Max-Length", strconv.FormatInt(g.ChunkMax, 10))
	}
	g.state(w, r, id, u, 0)
	w.WriteHeader(202)
}

func (g *Registry) created(w http.ResponseWriter, repo, name string) {
	w.Header().Set("Location", "/v2/"+repo+"/blobs/"+name)
	if !g.NoDigestHeader {
		w.Header().Set("Docker-Content-Digest", name)
	}
	status := 201
	if g.PutStatus != 0 {
		status = g.PutStatus
	}
	w.WriteHeader(status)
}

// state sets Location and Range.
func (g *Registry) state(w http.ResponseWriter, r *http.Request, id string, u *upload, first int64) {
	path := fmt.Sprintf("/v2/%s/blobs/uploads/%s?_state=%d-a%%2Bb%%3D%%3D", u.repo, id, u.gen)
	if g.Location != nil {
		path = g.Location(r, path)
	}
	if path != "" {
		w.Header().Set("Location", path)
	}
	end := int64(len(u.data))
	text := fmt.Sprintf("0-%d", max(end-1, 0))
	if g.Range != nil {
		text = g.Range(first, end)
	}
	if text != "" {
		w.Header().Set("Range", text)
	}
}

// session serves one open upload. A body is stored as it comes, so a connection that breaks
// leaves what came before.
func (g *Registry) session(w http.ResponseWriter, r *http.Request, repo, id string) {
	g.mu.Lock()
	u := g.uploads[id]
	g.mu.Unlock()
	if u != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
	}
	gen, _, _ := strings.Cut(r.URL.Query().Get("_state"), "-")
	if u == nil || u.repo != repo || !g.StableLocation && gen != strconv.Itoa(u.gen) && r.Method != http.MethodGet {
		g.unknown(w)
		return
	}
	switch {
	case r.Method == http.MethodGet && g.NoStatus:
		fail(w, 400, "NAME_INVALID", "invalid digest")
	case r.Method == http.MethodGet:
		g.state(w, r, id, u, 0)
		w.WriteHeader(204)
	case r.Method == http.MethodDelete:
		g.drop(id)
		w.WriteHeader(204)
	case r.Method == http.MethodPatch && !g.NoPatch, r.Method == http.MethodPut && !(g.NoPut && r.ContentLength > 0):
		g.append(w, r, id, u)
	default:
		fail(w, 405, "UNSUPPORTED", r.Method)
	}
}

func (g *Registry) unknown(w http.ResponseWriter) {
	status, code := 404, "BLOB_UPLOAD_UNKNOWN"
	if g.LostStatus != 0 {
		status = g.LostStatus
	}
	if g.LostCode != "" {
		code = g.LostCode
	}
	fail(w, status, code, "")
}

func (g *Registry) drop(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.uploads, id)
}

// append checks and stores the body of a PATCH or PUT.
func (g *Registry) append(w http.ResponseWriter, r *http.Request, id string, u *upload) {
	have := int64(len(u.data))
	cr := r.Header.Get("Content-Range")
	var a, b int64
	n, _ := fmt.Sscanf(cr, "%d-%d", &a, &b)
	tooLarge := g.MaxChunk > 0 && cr != "" && r.ContentLength > g.MaxChunk
	switch {
	case len(r.TransferEncoding) > 0 || r.ContentLength < 0:
		fail(w, 411, "SIZE_INVALID", "no Content-Length")
		return
	case r.Header.Get("Content-Type") != "application/octet-stream":
		fail(w, 415, "UNSUPPORTED", "Content-Type")
		return
	case g.MaxBody > 0 && r.ContentLength > g.MaxBody:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(413)
		io.WriteString(w, "<html><h1>413 Request Entity Too Large</h1></html>")
		return
	case tooLarge:
		fail(w, 416, "BLOB_UPLOAD_INVALID", "request body is too large; maximum is 4.00MiB")
		return
	case cr != "" && !g.IgnoreRange && (n != 2 || a != have || b-a+1 != r.ContentLength),
		r.Method == http.MethodPut && g.PutRange && r.ContentLength > 0 && have > 0 && cr == "":
		g.state(w, r, id, u, have)
		fail(w, 416, "RANGE_INVALID", "out of order")
		return
	case r.Method == http.MethodPatch && g.OneStream && have > 0 && cr == "":
		fail(w, 400, "BLOB_UPLOAD_INVALID", "Stream uploads after first write are not allowed")
		return
	}
	if !g.receive(r, id, u) {
		fail(w, 400, "SIZE_INVALID", "the body ended early")
		return
	}
	u.gen++
	if r.Method == http.MethodPut {
		g.commit(w, r, id, u)
		return
	}
	g.state(w, r, id, u, have)
	status := 202
	if g.PatchStatus != 0 {
		status = g.PatchStatus
	}
	w.WriteHeader(status)
}

// receive stores what comes, and reports whether all of it came.
func (g *Registry) receive(r *http.Request, id string, u *upload) bool {
	got, err := io.ReadAll(r.Body)
	whole := err == nil && int64(len(got)) == r.ContentLength
	if !whole && g.Granularity > 0 {
		got = got[:int64(len(got))/g.Granularity*g.Granularity]
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !whole && g.LoseSession {
		delete(g.uploads, id)
		return false
	}
	u.data = append(u.data, got...)
	g.taken += int64(len(got))
	return whole
}

func (g *Registry) commit(w http.ResponseWriter, r *http.Request, id string, u *upload) {
	name := r.URL.Query().Get("digest")
	d, err := digest.Parse(name)
	if err != nil || digestOf(d, u.data) != d {
		fail(w, 400, "DIGEST_INVALID", name)
		return
	}
	g.mu.Lock()
	g.blobs[u.repo+"@"+name] = u.data
	delete(g.uploads, id)
	g.mu.Unlock()
	g.created(w, u.repo, name)
}
