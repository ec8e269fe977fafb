package commonflags

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ocikit/oci/registry"
	"ocikit/oci/registry/auth"
)

// A refusal is what an error of a registry is about.
type refusal struct {
	err       error
	status    *registry.StatusError
	conn      *registry.ConnError
	untrusted *auth.UntrustedError
	grant     *auth.GrantError
}

// An advice is a hint for one kind of refusal. The first that fits counts.
type advice struct {
	fits func(refusal) bool
	flag string // that the hint names, of the command that prints it; "" for none
	text func(refusal) string
}

// Advise returns what a user may try after an error of a registry, or "". A hint names a flag only
// if has reports that the command has it.
func Advise(err error, has func(flag string) bool) string {
	r := refusal{err: err}
	errors.As(err, &r.status)
	errors.As(err, &r.conn)
	errors.As(err, &r.untrusted)
	errors.As(err, &r.grant)
	for _, a := range advices() {
		if (a.flag == "" || has(a.flag)) && a.fits(r) {
			return a.text(r)
		}
	}
	return ""
}

func advices() []advice {
	say := func(s string) func(refusal) string { return func(refusal) string { return s } }
	answered := func(f func(*registry.StatusError) bool) func(refusal) bool {
		return func(r refusal) bool { return r.status != nil && f(r.status) }
	}

	writes := func(e *registry.StatusError) bool { return e.Method != http.MethodGet && e.Method != http.MethodHead }
	tooLarge := answered(func(e *registry.StatusError) bool { return e.TooLarge() })
	badCertificate := func(r refusal) bool { return r.conn != nil && r.conn.BadCertificate() }

	// The more special stands before the more general, since the first that fits counts.
	return []advice{
		{func(r refusal) bool { return r.untrusted != nil }, "trust-realm", func(r refusal) string {
			return fmt.Sprintf("--trust-realm %s sends the credentials to that token server, if it belongs to the registry", r.untrusted.Host)
		}},
		{func(r refusal) bool { return r.grant != nil && r.grant.Given }, "",
			say("`ocikit registry token REF --actions pull,push` asks for a token that allows both")},
		{answered(func(e *registry.StatusError) bool { return e.Has("NAME_UNKNOWN") && writes(e) }), "",
			say("some registries want a repository to be created before the first push")},
		{answered(func(e *registry.StatusError) bool {
			return e.Has("DIGEST_INVALID") && strings.Contains(e.URL, "/sha512:")
		}), "",
			say("some registries know manifests by sha256 alone")},
		{answered(func(e *registry.StatusError) bool { return e.Status == http.StatusMethodNotAllowed && writes(e) }), "",
			say("the registry may be read-only")},
		{answered(func(e *registry.StatusError) bool { return e.TooLarge() && strings.Contains(e.URL, "/manifests/") }), "",
			say("the registry, or a proxy before it, takes no manifest of that size; the distribution-spec expects 4 MiB to work")},
		{tooLarge, "chunk-size", func(r refusal) string { return limitOf(r.status) + "a smaller --chunk-size may pass" }},
		{tooLarge, "length", func(r refusal) string { return limitOf(r.status) + "a smaller --length may pass" }},
		{tooLarge, "", func(r refusal) string {
			return limitOf(r.status) + "`ocikit push` and `ocikit upload chunk --length SIZE` send smaller ones; `ocikit registry probe REF --only body-limit` finds what passes"
		}},
		{answered(func(e *registry.StatusError) bool { return e.RetryAfter > time.Minute }), "", func(r refusal) string {
			return fmt.Sprintf("the registry asks to wait %s", r.status.RetryAfter.Round(time.Second))
		}},
		{answered((*registry.StatusError).RateLimited), "",
			say("the registry limits requests; who logs in may often send more: `ocikit help credentials`")},
		{answered(func(e *registry.StatusError) bool { return e.Status == http.StatusUnauthorized }), "",
			say("`ocikit login HOST` keeps credentials for every command; `ocikit help credentials` says where they come from, `ocikit registry token REF --explain` which were used")},
		{answered((*registry.StatusError).WantsTLS), "plain-http", say("the registry speaks HTTPS; leave out --plain-http")},
		{answered(func(e *registry.StatusError) bool {
			return e.Status == http.StatusNotFound && e.Body != "" && !strings.HasPrefix(e.Body, "{")
		}), "", say("what answers is not a registry: one below a path of its host cannot be named, its API begins at HOST/v2/")},
		{func(r refusal) bool { return r.conn != nil && r.conn.NoSuchHost() }, "resolve", func(r refusal) string {
			return fmt.Sprintf("no name service knows %s; --resolve HOST:PORT:ADDRESS says where it is", hostOf(r.conn.URL))
		}},
		{badCertificate, "ca-file", func(r refusal) string {
			return fmt.Sprintf("--ca-file FILE trusts the authority that signed the certificate of %s", hostOf(r.conn.URL))
		}},
		{func(r refusal) bool { return r.conn != nil && r.conn.NotTLS() }, "plain-http",
			say("the registry does not speak HTTPS; --plain-http talks to it without")},
	}
}

// limitOf begins a hint with who has set the limit.
func limitOf(e *registry.StatusError) string {
	if e.Server == "" {
		return ""
	}
	return fmt.Sprintf("the limit is set by %q; ", e.Server)
}

func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "the registry"
	}
	return u.Host
}
