package probe

import (
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry"
)

// commitProbes are about the requests that end an upload. What they store is read by later ones.
func commitProbes() []probe {
	row := func(id, asks string) Row { return Row{ID: id, Endpoint: "end-6", Asks: asks, Writes: true} }
	return []probe{
		{Row: row("put", "PUT with the whole blob"), needs: "start", try: (*run).tryPut},
		{Row: row("put-stream", "PATCH with the whole blob, then PUT without a body"), needs: "chunk-stream", try: func(r *run) *result {
			data := noise(size)
			s := r.opened()
			s.patch(data, "")
			return r.stored(s.put(digestOf(data), nil, ""), digestOf(data))
		}},
		{Row: row("put-chunks", "two PATCHes with Content-Range, then PUT without a body"), needs: "chunk", try: func(r *run) *result {
			return r.chunked(2, func(s *session, _ []byte, d string) answer { return s.put(d, nil, "") })
		}},
		{Row: row("put-tail", "PATCH, then PUT with the rest and Content-Range"), needs: "chunk", try: func(r *run) *result {
			return r.chunked(1, func(s *session, rest []byte, d string) answer { return s.put(d, rest, s.next(len(rest))) })
		}},
		{Row: row("put-tail-bare", "PATCH, then PUT with the rest and no Content-Range"), needs: "chunk", try: func(r *run) *result {
			res := r.chunked(1, func(s *session, rest []byte, d string) answer { return s.put(d, rest, "") })
			if res.level == Violation && !res.works {
				res.level = Note
			}
			return res.pushes(true, "says where the rest belongs")
		}},
		{Row: row("put-gap", "PATCH, then PUT with a Content-Range behind the end"), needs: "chunk", try: func(r *run) *result {
			var a answer
			r.chunked(1, func(s *session, rest []byte, d string) answer { a = s.put(d, rest, "9000-13095"); return a })
			if a.is(400) {
				return judge(a, Note, 416)
			}
			return judge(a, Violation, 416)
		}},
		{Row: row("put-encoding", "PUT with Transfer-Encoding: chunked"), needs: "put", try: func(r *run) *result {
			data := noise(size)
			return judge(r.opened().commit(digestOf(data), registry.Call{Body: data, Chunked: true}, ""), Note, 201).pushes(true, "always says the length")
		}},
		{Row: row("put-wrong", "PUT with the digest of other bytes, then with the right one"), needs: "put", try: (*run).tryWrong},
		{Row: row("put-malformed", "PUT with digest=potato"), needs: "put", try: func(r *run) *result {
			s := r.opened()
			a := s.send(registry.Call{Endpoint: "end-6", Method: "PUT", Body: noise(size), Query: "digest=potato"}, "")
			return judge(a, Violation, 400)
		}},
		{Row: Row{ID: "put-sha512", Endpoint: "end-4c", Asks: "POST with digest-algorithm=sha512, PUT, then HEAD by that digest", Writes: true}, needs: "put", try: (*run).trySHA512},
		{Row: row("put-empty", "PUT of a blob without bytes"), needs: "put", try: (*run).tryEmpty},
		{Row: Row{ID: "post", Endpoint: "end-4b", Asks: "POST with the whole blob", Writes: true}, needs: "start", try: (*run).tryPost},
		{Row: Row{ID: "put-large", Endpoint: "end-6", Asks: "PUT of 5 MiB", Writes: true, Large: true}, needs: "put", try: func(r *run) *result {
			data := noise(5 << 20)
			s := r.opened()
			a := s.put(digestOf(data), data, "")
			return judge(a, Note, 201).pushes(!a.done(), "goes over to chunks")
		}},
	}
}

// created judges the answer to the PUT of what has a digest.
func created(a answer, d string) *result {
	res := judge(a, Violation, 201)
	if a.done() {
		if a.Header.Get("Location") == "" {
			res.violation("no Location")
		}
		checkDigest(res, a, d)
	}
	return res
}

// stored judges the answer to a commit, and looks whether the blob is there then.
func (r *run) stored(a answer, d string) *result {
	res := created(a, d)
	if !a.done() {
		return res
	}
	if head := r.headBlob(d); head.is(404) {
		res.works = false
		res.violation("then HEAD: %s", describe(head))
	}
	return res
}

func (r *run) headBlob(d string) answer {
	return r.ask(registry.Call{Endpoint: "end-2", Method: "HEAD", Path: r.repo + "/blobs/" + d})
}

// tryPut stores the blob that later probes read.
func (r *run) tryPut() *result {
	data := noise(size)
	s := r.opened()
	a := s.put(digestOf(data), data, "")
	res := r.stored(a, digestOf(data))
	if a.done() {
		r.blob, r.bytes = oci.Describe(oci.MediaTypeLayer, data), data
	}
	return res.pushes(!a.done(), "sends each blob in one PATCH")
}

// tryEmpty stores the blob without bytes. Others may use the same one, so it is removed at the end
// only if it was not there before.
func (r *run) tryEmpty() *result {
	d := digestOf(nil)
	before := r.headBlob(d)
	s := r.opened()
	res := r.stored(s.put(d, nil, ""), d)
	if !before.is(404) {
		r.gone("blob", d)
	}
	return res
}

// chunked sends n of the two chunks that a blob has, and calls finish with the rest of its bytes to
// commit it.
func (r *run) chunked(n int, finish func(s *session, rest []byte, d string) answer) *result {
	data := noise(2 * size)
	s := r.opened()
	for range n {
		s.patch(data[s.offset:s.offset+size], s.next(size))
	}
	d := digestOf(data)
	return r.stored(finish(s, data[s.offset:], d), d)
}

// tryWrong names a wrong digest, and then the right one in the same session. The spec wants a 400,
// and leaves open whether the session lives on.
func (r *run) tryWrong() *result {
	data := noise(size)
	right := digestOf(data)
	s := r.opened()
	a := s.put(digestOf(noise(size)), data, "")
	res := judge(a, Violation, 400)
	after := s.status()
	switch {
	case a.done():
		return res.say("a blob was stored under the digest of another")
	case !after.done():
		return res.say("then the session is gone: %s", describe(after)).pushes(true, "starts over")
	}

	if after.Range > 1 { // it has kept the bytes, and needs only the right digest
		data = nil
	}

	again := s.put(right, data, "")
	return res.say("then with the right one %s", describe(again)).pushes(true, "starts over")
}

// trySHA512 sends a blob that has a sha512 digest, and looks whether it is found by that digest.
func (r *run) trySHA512() *result {
	data := noise(size)
	d := digest.SHA512.FromBytes(data).String()
	s, start := r.start("end-4c", "?digest-algorithm="+string(digest.SHA512))
	if !start.done() {
		return judge(start, Note, 202).pushes(true, "cannot send blobs with sha512 digests")
	}

	a := s.put(d, data, "")
	res := judge(a, Note, 201)
	if !a.done() {
		return res.pushes(true, "cannot send blobs with sha512 digests")
	}

	if got := a.Header.Get("Docker-Content-Digest"); got != "" && !strings.HasPrefix(got, "sha512:") {
		res.note("Docker-Content-Digest is of another algorithm")
	}

	head := r.headBlob(d)
	if head.is(404) {
		res.violation("then HEAD: %s", describe(head))
	}

	return res.pushes(head.is(404), "fails with sha512 digests: it looks whether the blob is there")
}

// tryPost sends a blob with the request that opens the session. A registry may open a session in
// its place.
func (r *run) tryPost() *result {
	data := noise(size)
	d := digestOf(data)
	a := r.ask(registry.Call{
		Endpoint: "end-4b", Method: "POST", Path: r.repo + "/blobs/uploads/?digest=" + d, Body: data,
		Header: map[string][]string{"Content-Type": {"application/octet-stream"}},
	})

	// A registry without this endpoint opens a session, which has to be closed.
	r.session(a)
	if a.is(201) {
		r.keep("blob", d)
		return r.stored(a, d)
	}

	res := judge(a, Violation, 202)
	if a.is(202) {
		res.say("a session was opened in its place")
	}

	return res.pushes(true, "opens a session first")
}
