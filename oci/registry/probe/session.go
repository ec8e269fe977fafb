package probe

import (
	"cmp"
	"fmt"

	"ocikit/oci/registry"
)

// A session is an upload session, as far as the registry has opened one.
type session struct {
	r        *run
	location string // the newest
	first    string
	offset   int64 // bytes that were sent
	open     bool
	doubt    bool // the last request was refused, so the Location may be old
}

// start opens a session; query begins with "?" or is empty.
func (r *run) start(endpoint, query string) (*session, answer) {
	a := r.ask(registry.Call{Endpoint: endpoint, Method: "POST", Path: r.repo + "/blobs/uploads/" + query})
	return r.session(a), a
}

// opened returns a new session.
func (r *run) opened() *session {
	s, _ := r.start("end-4a", "")
	return s
}

// session returns the session that an answer has opened, and remembers to close it at the end.
func (r *run) session(a answer) *session {
	s := &session{r: r, location: a.Location, first: a.Location, open: a.done() && a.Status != 201 && a.Location != ""}
	if s.open {
		r.sessions = append(r.sessions, s)
	}
	return s
}

// send sends a request with a body to the session. contentRange may be empty.
func (s *session) send(call registry.Call, contentRange string) answer {
	call.Location = cmp.Or(call.Location, s.location)

	if call.Header == nil {
		call.Header = map[string][]string{"Content-Type": {"application/octet-stream"}}
	}

	if contentRange != "" {
		call.Header["Content-Range"] = []string{contentRange}
	}

	// Without a success it is not known what the registry took, so offset and Location stay.
	a := s.r.ask(call)
	s.doubt = !a.done()
	if a.done() {
		s.offset += int64(len(call.Body))
		if a.Location != "" && call.Method != "PUT" {
			s.location = a.Location
		}
	}

	return a
}

func (s *session) patch(data []byte, contentRange string) answer {
	return s.send(registry.Call{Endpoint: "end-5", Method: "PATCH", Body: data}, contentRange)
}

// put commits the session. The blob that it stores is removed at the end.
func (s *session) put(d string, data []byte, contentRange string) answer {
	return s.commit(d, registry.Call{Body: data}, contentRange)
}

// commit sends the PUT that ends the session, with the body and whatever else call has.
func (s *session) commit(d string, call registry.Call, contentRange string) answer {
	call.Endpoint, call.Method, call.Query = "end-6", "PUT", "digest="+d
	a := s.send(call, contentRange)
	if a.done() {
		s.open = false
		s.r.keep("blob", d)
	}
	return a
}

// status asks how far the upload is (end-13), and takes over a new Location.
func (s *session) status() answer {
	a := s.r.ask(registry.Call{Endpoint: "end-13", Method: "GET", Location: s.location})
	if a.done() && a.Location != "" {
		s.location = a.Location
	}
	return a
}

func (s *session) cancel() answer {
	s.open = false
	return s.r.ask(registry.Call{Endpoint: "end-14", Method: "DELETE", Location: s.location})
}

// next is the Content-Range of the n bytes that come next.
func (s *session) next(n int) string { return fmt.Sprintf("%d-%d", s.offset, s.offset+int64(n)-1) }
