package probe

import (
	"errors"
	"fmt"

	"ocikit/oci/registry"
)

// A limit on bodies is looked for between 0 and limitMost, to the nearest limitStep. Proxies come with
// a limit of 1 MiB. A limit over 100 MiB is none that a push would meet.
const (
	limitStep = 64 << 10
	limitMost = 100 << 20
)

func limitProbes() []probe {
	return []probe{{
		Row:   Row{ID: "body-limit", Endpoint: "end-5", Asks: "PATCHes that claim up to 100 MiB and are cut after a byte", Writes: true},
		needs: "start", try: (*run).tryLimit,
	}}
}

// tryLimit finds the largest body that is not refused, by halving. A proxy decides by the length that
// a request claims, so a single byte of each body is enough.
func (r *run) tryLimit() *result {
	passes, a := r.claims(limitMost)
	switch {
	case passes:
		return (&result{level: OK, works: true}).say("a body of 100 MiB is not refused")
	case !isTooLarge(a):
		return judge(a, Note)
	}

	// A body of low bytes passes and one of high bytes is refused, all the way.
	refused, low, high := a, int64(0), int64(limitMost)
	for high-low > limitStep {
		middle := (low + high) / 2 / limitStep * limitStep
		passes, a := r.claims(middle)
		switch {
		case passes:
			low = middle
		case isTooLarge(a):
			refused, high = a, middle
		default:
			return judge(a, Note)
		}
	}

	r.facts.bodyLimit = low
	res := judge(refused, Note)
	res.works = true
	if server := refused.Header.Get("Server"); server != "" {
		res.say("from %s", plain(server))
	}

	if low == 0 {
		return res.note("not even %d bytes pass", limitStep)
	}

	return res.note("up to %s pass", sizeText(low)).pushes(true, "goes over to smaller chunks until one passes")
}

// claims sends the head of a chunk that claims n bytes, and its first byte, to a session of its own.
// It reports whether the registry was ready to take the rest, when the connection was cut.
func (r *run) claims(n int64) (bool, answer) {
	s, a := r.start("end-4a", "")
	if !a.done() {
		return false, a
	}
	a = s.send(registry.Call{Endpoint: "end-5", Method: "PATCH", Body: noise(2), Length: n, CutAfter: 1}, "")
	s.cancel()
	return errors.Is(a.err, registry.ErrCut), a
}

// isTooLarge reports whether an answer is about the size of the body.
func isTooLarge(a answer) bool {
	return a.is(413, 416)
}

// sizeText returns a multiple of 64 KiB as --chunk-size takes it.
func sizeText(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%dMiB", n>>20)
	}
	return fmt.Sprintf("%dKiB", n>>10)
}
