package probe

import "ocikit/oci/registry"

func chunkProbes() []probe {
	row := func(id, asks string) Row { return Row{ID: id, Endpoint: "end-5", Asks: asks, Writes: true} }
	return []probe{
		{Row: row("chunk", "PATCH with Content-Range, then the status"), needs: "start", try: (*run).tryChunk},
		{Row: row("chunk-stream", "one PATCH without Content-Range"), needs: "start", try: func(r *run) *result {
			return chunkResult(r.opened().patch(noise(size), ""), size)
		}},
		{Row: row("chunk-again", "a second PATCH without Content-Range"), needs: "chunk", try: func(r *run) *result {
			a := r.begun().patch(noise(size), "")
			res := chunkResult(a, 2*size)
			if !a.done() {
				res.level = Note
			}
			return res.pushes(true, "says where the bytes of a second PATCH belong")
		}},
		{Row: row("chunk-gap", "PATCH with a Content-Range behind the end, then the status"), needs: "chunk", try: (*run).tryGap},
		{Row: row("chunk-twice", "the same PATCH twice"), needs: "chunk", try: func(r *run) *result {
			return judge(r.begun().patch(noise(size), "0-4095"), Violation, 416)
		}},
		{Row: row("chunk-stale", "PATCH to the Location before the last"), needs: "chunk", try: (*run).tryStale},
		{Row: Row{ID: "status-stale", Endpoint: "end-13", Asks: "GET of the Location before the last", Writes: true}, needs: "status", try: func(r *run) *result {
			s := r.begun()
			return judge(r.ask(registry.Call{Endpoint: "end-13", Method: "GET", Location: s.first}), OK)
		}},
		{Row: row("chunk-unit", "PATCH with a Content-Range of the form bytes 0-4095/4096"), needs: "chunk", try: func(r *run) *result {
			return judge(r.opened().patch(noise(size), "bytes 0-4095/4096"), Note, 416, 400)
		}},
		{Row: row("chunk-length", "PATCH with a Content-Range that is longer than the body"), needs: "chunk", try: func(r *run) *result {
			return judge(r.opened().patch(noise(size), "0-9999"), Note, 416, 400)
		}},
		{Row: row("chunk-empty", "PATCH without a body"), needs: "chunk", try: func(r *run) *result {
			s := r.opened()
			a := s.patch(nil, "")
			res := judge(a, OK)
			if a.done() {
				res.say("Range %s", plain(a.Header.Get("Range")))
			}
			return res
		}},
		{Row: row("chunk-type", "PATCH with Content-Type text/plain"), needs: "chunk", try: func(r *run) *result {
			return judge(r.opened().send(registry.Call{Endpoint: "end-5", Method: "PATCH", Body: noise(size), Header: map[string][]string{"Content-Type": {"text/plain"}}}, ""), OK)
		}},
		{Row: row("chunk-encoding", "PATCH with Transfer-Encoding: chunked"), needs: "chunk", try: func(r *run) *result {
			s := r.opened()
			a := s.send(registry.Call{Endpoint: "end-5", Method: "PATCH", Body: noise(size), Chunked: true}, "")
			return chunkResult(a, size).pushes(true, "always says the length")
		}},
		{Row: row("chunk-unknown", "PATCH to a session that was cancelled"), needs: "cancel", try: func(r *run) *result {
			s := r.opened()
			s.cancel()
			return judge(s.patch(noise(size), ""), Note, 404)
		}},
		{Row: Row{ID: "chunk-large", Endpoint: "end-5", Asks: "PATCH of 5 MiB with Content-Range", Writes: true, Large: true}, needs: "chunk", try: (*run).tryLargeChunk},
	}
}

// begun returns a session that has one chunk.
func (r *run) begun() *session {
	s := r.opened()
	s.patch(noise(size), s.next(size))
	return s
}

// chunkResult judges the answer to a chunk, after which the session holds want bytes.
func chunkResult(a answer, want int64) *result {
	res := judge(a, Violation, 202)
	if a.done() {
		checkRange(res, a, want)
		res.pushes(res.level == Violation && a.Location != "", "goes by what it sent, and by the digest")
	}
	return res
}

// tryChunk sends the first chunk, and compares what the registry says with what was sent.
func (r *run) tryChunk() *result {
	s := r.opened()
	a := s.patch(noise(size), s.next(size))
	res := chunkResult(a, size)
	if !a.done() {
		return res.pushes(true, "sends each blob in one PUT")
	}
	checkLocation(res, r, a)
	if a.Location == s.first {
		res.say("the same as before")
	} else {
		res.say("another than before")
	}
	return res.then(s.statusResult())
}

// statusResult asks for the status, and judges it by what was sent. Having no status is not a fault here:
// another probe is about that.
func (s *session) statusResult() *result {
	a := s.status()
	res := judge(a, OK)
	if a.done() {
		checkRange(res, a, s.offset)
	}
	return res
}

func (r *run) tryGap() *result {
	s := r.begun()
	a := s.patch(noise(size), "9000-13095")
	res := judge(a, Violation, 416)
	return res.then(s.statusResult()).pushes(a.done(), "compares the Range of each answer, and the digest")
}

// tryStale sends to an old Location. A refusal is right: the spec wants the newest one to be used.
func (r *run) tryStale() *result {
	s := r.begun()
	if s.location == s.first {
		return (&result{level: OK, works: true}).say("the Location never changes")
	}
	a := s.send(registry.Call{Endpoint: "end-5", Method: "PATCH", Location: s.first, Body: noise(size)}, s.next(size))
	return judge(a, OK).pushes(true, "uses the newest Location")
}

func (r *run) tryLargeChunk() *result {
	s := r.opened()
	a := s.patch(noise(5<<20), s.next(5<<20))
	return judge(a, Note, 202).pushes(!a.done(), "goes over to smaller chunks")
}
