package probe

import (
	"errors"
	"time"

	"ocikit/oci/registry"
)

// A body that is cut has so many bytes, and is cut after half of them.
const (
	cutBody  = 128 << 10
	cutAfter = cutBody / 2
)

func cutProbes() []probe {
	return []probe{
		{Row: Row{ID: "cut", Endpoint: "end-13", Asks: "a PATCH that is cut half way, then the status", Writes: true}, needs: "chunk", try: (*run).tryCut},
	}
}

// tryCut breaks a connection on purpose and goes on where the registry says.
func (r *run) tryCut() *result {
	data := noise(cutBody)
	s := r.opened()
	cut := s.send(registry.Call{Endpoint: "end-5", Method: "PATCH", Body: data, CutAfter: cutAfter}, "")
	if !errors.Is(cut.err, registry.ErrCut) {
		return judge(cut, Note).say("answered before the connection was cut")
	}

	// What the registry claims is only believed if the rest fits behind it: the digest at the
	// end decides.
	a := r.settled(s)
	res := judge(a, Note, 204)
	switch n := min(max(a.Range, 0), cutBody); {
	case !a.done():
		r.facts.resume = "lost"
		return res.note("the session is lost").pushes(true, "starts a broken blob over")
	case n <= 1:
		r.facts.resume = "none"
		res.note("nothing was kept").pushes(true, "starts a broken blob over")
		s.offset = 0
	case n == cutAfter:
		r.facts.resume = "exact"
		res.say("all %d bytes were kept", n).pushes(true, "goes on where it broke")
		s.offset = n
	case n > cutAfter:
		r.facts.resume = "lost"
		return res.violation("it claims %d of %d bytes", n, cutAfter).pushes(true, "starts a broken blob over")
	default:
		r.facts.resume = "part"
		res.note("%d of %d bytes were kept", n, cutAfter).pushes(true, "goes on where the registry stands")
		s.offset = n
	}

	s.patch(data[s.offset:], s.next(len(data)-int(s.offset)))
	done := s.put(digestOf(data), nil, "")
	if !done.done() {
		r.facts.resume = "lost"
		return res.note("the rest was refused: %s", describe(done)).pushes(true, "starts a broken blob over")
	}

	return res.say("then the rest: %s", describe(done))
}

// settled asks for the status until it is the same twice, for a second at most: bytes that were on
// their way when the connection broke may still arrive. A busy registry may not even have begun with
// them, so that "nothing is kept" is believed only when the second is over.
func (r *run) settled(s *session) answer {
	a := s.status()
	for range 10 {
		if r.o.Sleep(r.ctx, 100*time.Millisecond) != nil {
			return a
		}
		again := s.status()
		none := again.done() && again.Range <= 1
		if again.Status == a.Status && again.Range == a.Range && !none {
			return again
		}
		a = again
	}
	return a
}
