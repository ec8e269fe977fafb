package probe

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ocikit/oci/registry"
)

// A result is what a probe found out. Its methods change it and return it, so that they can follow one
// another.
type result struct {
	level Level
	got   []string
	push  string
	works bool  // the registry does what was asked for
	fatal error // why it makes no sense to go on
}

func skip(format string, args ...any) *result {
	return &result{level: Skipped, got: []string{fmt.Sprintf(format, args...)}}
}

// judge begins a result with an answer. Its level is OK if the status is one of want, else otherwise.
func judge(a answer, otherwise Level, want ...int) *result {
	res := &result{level: OK, got: []string{describe(a)}, works: a.done()}
	if !a.is(want...) {
		res.level = otherwise
	}
	return res
}

// say adds to what came, and leaves the level.
func (res *result) say(format string, args ...any) *result {
	res.got = append(res.got, fmt.Sprintf(format, args...))
	return res
}

// note adds to what came, and makes an OK a Note.
func (res *result) note(format string, args ...any) *result {
	if res.level == OK {
		res.level = Note
	}
	return res.say(format, args...)
}

// violation adds to what came, and makes the result a Violation.
func (res *result) violation(format string, args ...any) *result {
	res.level = Violation
	return res.say(format, args...)
}

// then adds the result of a second step, and takes over its level if that is worse.
func (res *result) then(next *result) *result {
	switch next.level {
	case Note:
		return res.note("then %s", strings.Join(next.got, ", "))
	case Violation:
		return res.violation("then %s", strings.Join(next.got, ", "))
	}
	return res.say("then %s", strings.Join(next.got, ", "))
}

// pushes sets what ocikit push does about the finding, if cond holds.
func (res *result) pushes(cond bool, what string) *result {
	if cond {
		res.push = what
	}
	return res
}

// describe says in a few words what came.
func describe(a answer) string {
	var conn *registry.ConnError
	switch {
	case errors.As(a.err, &conn):
		return fmt.Sprintf("no answer (%s: %s)", conn.Stage, short(conn.Err.Error()))
	case a.err != nil:
		return short(withoutURL(a.err.Error()))
	case len(a.Errors) > 0:
		return fmt.Sprintf("%d %s", a.Status, plain(a.Errors[0].Code))
	case a.Status >= 400 && len(a.Body) == 0:
		return fmt.Sprintf("%d without a body", a.Status)
	case a.Status >= 400:
		return fmt.Sprintf("%d with a body of type %s", a.Status, plain(a.Header.Get("Content-Type")))
	}
	return strconv.Itoa(a.Status)
}

// withoutURL takes the request off the front of an error: the finding says what was asked.
func withoutURL(s string) string {
	if request, rest, found := strings.Cut(s, ": "); found && strings.Contains(request, " http") {
		return rest
	}
	return s
}

// plain returns a word of the registry's as it is if it is one, else quoted and capped.
func plain(s string) string {
	word := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_-./+:=", c)
	}
	if s != "" && len(s) <= 80 && !strings.ContainsFunc(s, func(c rune) bool { return !word(c) }) {
		return s
	}
	return fmt.Sprintf("%q", short(s))
}

func short(s string) string {
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// hasCode reports whether the registry's error list has one of the codes.
func hasCode(a answer, codes ...string) bool {
	return slices.ContainsFunc(a.Errors, func(i registry.ErrorInfo) bool { return slices.Contains(codes, i.Code) })
}

// checkDigest judges the header Docker-Content-Digest.
func checkDigest(res *result, a answer, want string) {
	alg, _, _ := strings.Cut(want, ":")
	switch got := a.Header.Get("Docker-Content-Digest"); {
	case got == want:
	case got == "":
		res.note("no Docker-Content-Digest")
	case strings.HasPrefix(got, alg+":"):
		res.violation("Docker-Content-Digest is %s, not that of the bytes", plain(got))
	default:
		res.note("Docker-Content-Digest is of another algorithm")
	}
}

// checkRange judges the Range of an upload that holds want bytes.
func checkRange(res *result, a answer, want int64) {
	raw := a.Header.Get("Range")
	switch {
	case raw == "" && want == 0:
		res.note("no Range for no bytes")
	case raw == "":
		res.violation("no Range")
	case a.Range < 0:
		res.violation("Range %s cannot be read", plain(raw))
	// These spellings can be read, but are not those of the spec, which has no unit.
	case strings.HasPrefix(raw, "bytes"), raw == "0--1":
		res.note("Range is written %s", plain(raw))
	case a.Range == want, a.Range == 1 && want == 0:
		res.say("Range %s", plain(raw))
	default:
		res.violation("Range %s for %d bytes", plain(raw), want)
	}
}

// checkLocation says how the Location of a session is written.
func checkLocation(res *result, r *run, a answer) {
	raw := a.Header.Get("Location")
	scheme, _, absolute := strings.Cut(raw, "://")
	switch home := r.c.URL(); {
	case raw == "":
		res.violation("no Location")
	case a.Location == "":
		res.violation("a Location that is not followed, on %s", hostOf(raw))
	case !strings.HasPrefix(a.Location, home+"/"):
		res.note("Location on another host, %s", hostOf(a.Location))
		res.pushes(true, "sends uploads there, without credentials")
	case absolute && !strings.HasPrefix(home, scheme+"://"):
		res.violation("Location with %s://, as behind a proxy that does not send X-Forwarded-Proto: https", plain(scheme))
	case absolute:
		res.say("Location absolute")
	case strings.HasPrefix(raw, "//"):
		res.note("Location without a scheme")
	case strings.HasPrefix(raw, "/"):
		res.say("Location relative")
	default:
		res.note("Location relative to the path of the request")
	}
}

// hostOf returns the host in a URL, and nothing else of it, which may be secret.
func hostOf(raw string) string {
	_, rest, found := strings.Cut(raw, "//")
	if !found {
		return `""`
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return plain(rest[strings.LastIndexByte(rest, '@')+1:])
}
