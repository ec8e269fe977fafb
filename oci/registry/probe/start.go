package probe

import (
	"strings"

	"ocikit/oci/registry"
)

// size is that of the blobs that probes send.
const size = 4096

func startProbes() []probe {
	return []probe{
		{Row: Row{ID: "start", Endpoint: "end-4a", Asks: "POST blobs/uploads/", Writes: true}, try: (*run).tryStart},
		{Row: Row{ID: "start-slash", Endpoint: "end-4a", Asks: "POST blobs/uploads without the slash at the end", Writes: true}, needs: "start", try: func(r *run) *result {
			a := r.ask(registry.Call{Endpoint: "end-4a", Method: "POST", Path: r.repo + "/blobs/uploads", Stay: true})
			r.session(a)
			return judge(a, OK)
		}},
		{Row: Row{ID: "start-algorithm", Endpoint: "end-4c", Asks: "POST with digest-algorithm=potato", Writes: true}, needs: "start", try: func(r *run) *result {
			_, a := r.start("end-4c", "?digest-algorithm=potato")
			return judge(a, Note, 400)
		}},
		{Row: Row{ID: "status", Endpoint: "end-13", Asks: "GET of a session without bytes", Writes: true}, needs: "start", try: (*run).tryStatus},
		{Row: Row{ID: "status-head", Endpoint: "end-13", Asks: "HEAD of a session", Writes: true}, needs: "start", try: func(r *run) *result {
			s := r.opened()
			return judge(r.ask(registry.Call{Endpoint: "end-13", Method: "HEAD", Location: s.location}), OK).pushes(true, "asks with GET")
		}},
		{Row: Row{ID: "cancel", Endpoint: "end-14", Asks: "DELETE of a session, then its status", Writes: true}, needs: "start", try: (*run).tryCancel},
	}
}

// tryStart opens the first session. If that is not allowed, nothing else is written.
func (r *run) tryStart() *result {
	_, a := r.start("end-4a", "")
	res := judge(a, Violation, 202)

	// A registry that is read-only, or a cache, often has no such path: 404 and 405 mean the
	// same here. The token may say what right is missing.
	if a.denied() || a.is(404, 405) {
		r.denied = "writing is not allowed here: " + describe(a)
		if info, err := r.c.Token(r.ctx, "repository:"+r.repo+":pull,push"); err == nil && info.Less != "" {
			r.denied += " (" + plain(info.Less) + ")"
		}
		r.profile.ReadOnly = true
		res.level, res.works = Note, false
		return res.pushes(true, "cannot work")
	}

	if !a.done() {
		return res
	}

	checkLocation(res, r, a)
	checkRange(res, a, 0)
	for name := range a.Header {
		if strings.HasSuffix(strings.ToLower(name), "-upload-uuid") {
			res.say("%s", plain(name))
		}
	}

	r.facts.chunkMin, r.facts.chunkMax = a.Header.Get("OCI-Chunk-Min-Length"), a.Header.Get("OCI-Chunk-Max-Length")
	if r.facts.chunkMin != "" {
		res.note("OCI-Chunk-Min-Length %s", plain(r.facts.chunkMin)).pushes(true, "sends no smaller chunk, and refuses over 1 GiB")
	}

	if r.facts.chunkMax != "" {
		res.note("OCI-Chunk-Max-Length %s", plain(r.facts.chunkMax)).pushes(true, "sends larger blobs in chunks of that size")
	}

	return res
}

// tryStatus asks for the status of a session that is empty.
func (r *run) tryStatus() *result {
	s := r.opened()
	a := s.status()
	res := judge(a, Violation, 204)
	if a.done() {
		checkRange(res, a, 0)
	}
	return res.pushes(!a.done(), "starts over after a broken upload")
}

// tryCancel closes a session without a blob, and looks whether it is gone.
func (r *run) tryCancel() *result {
	s := r.opened()
	a := s.cancel()
	res := judge(a, Violation, 204)
	if a.done() {
		res.then(judge(s.status(), Note, 404))
	}
	s.open = !a.done()
	return res.pushes(!a.done(), "cancels all the same, and does not mind")
}
