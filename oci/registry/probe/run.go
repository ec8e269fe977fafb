package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry"
)

// A probe is a row of the table and the way to try it.
type probe struct {
	Row
	needs string // the probe that must have worked before
	try   func(*run) *result
}

// table returns all probes. The order matters: things are made, then read, then removed.
func table() []probe {
	return slices.Concat(pingProbes(), startProbes(), chunkProbes(), commitProbes(), cutProbes(), limitProbes(), mountProbes(),
		putProbes(), manifestProbes(), blobProbes(), listProbes(), removeProbes(), lastProbes())
}

// choose returns the probes that the options ask for, with those that they need, in the order of the
// table.
func choose(o Options) ([]probe, error) {
	all := table()
	wanted := map[string]bool{}
	for _, id := range o.Only {
		for id != "" {
			i := slices.IndexFunc(all, func(p probe) bool { return p.ID == id })
			if i < 0 {
				return nil, fmt.Errorf("probe %q: there is none of that name", id)
			}
			wanted[id] = true
			id = all[i].needs
		}
	}

	// A large probe that is asked for by its ID is tried without Large. The ping always is: it
	// finds out where the registry is.
	return slices.DeleteFunc(all, func(p probe) bool {
		return p.Writes && o.ReadOnly || p.Large && !o.Large && !wanted[p.ID] || len(wanted) > 0 && !wanted[p.ID] && p.ID != "ping"
	}), nil
}

// A run is one walk through the table.
type run struct {
	ctx  context.Context
	c    *registry.Client
	repo string
	name string // what to read if nothing is made
	o    Options

	profile Profile
	pinged  registry.PingResult
	tag     string          // of our own
	works   map[string]bool // the probes that got what they asked for
	denied  string          // why nothing may be written
	facts   facts

	sessions  []*session
	made      []thing
	doc       document        // the manifest to read
	referrer  document        // what refers to it
	config    oci.Descriptor  // of doc
	blob      oci.Descriptor  // the blob to read
	bytes     []byte          // of blob, if it is ours
	warnings  map[string]bool // texts
	limits    map[string]bool // names of headers about rates
	slowdowns int             // 429 and 503
	failures  int             // requests without an answer
	inARow    int
	last      error // of them
}

// facts are what later probes and the advice build on.
type facts struct {
	chunkMin, chunkMax string // headers
	resume             string // "exact", "part", "none" or "lost"
	bodyLimit          int64  // the largest body that passes, 0 if none was refused
}

func newRun(ctx context.Context, c *registry.Client, repo, name string, o Options) *run {
	return &run{
		ctx: ctx, c: c, repo: repo, name: name, o: o,
		profile: Profile{Repository: c.Host() + "/" + repo, ReadOnly: o.ReadOnly, Findings: []Finding{}, Push: []string{}, Left: []string{}},
		tag:     "ocikit-probe-" + hex.EncodeToString(noise(8)),
		works:   map[string]bool{}, warnings: map[string]bool{}, limits: map[string]bool{},
	}
}

// noise returns n random bytes: a blob of them is in no registry yet.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// all tries the probes in order and adds a finding for each. It ends early if there is no registry to
// talk to.
func (r *run) all(probes []probe) error {
	for _, p := range probes {
		var res *result
		switch {
		case p.Writes && r.denied != "":
			res = skip("%s", r.denied)
		case p.needs != "" && !r.works[p.needs]:
			res = skip("%s did not work", p.needs)
		default:
			res = p.try(r)
		}
		if err := r.broken(res); err != nil {
			return err
		}
		r.works[p.ID] = res.works
		r.profile.Findings = append(r.profile.Findings, Finding{
			p.ID, p.Endpoint, res.level, p.Asks, r.c.Redact(strings.Join(res.got, ", ")), res.push,
		})
	}

	return nil
}

// A registry that breaks a connection now and then is a finding. One that breaks every connection is
// as good as absent, and must not cost a timeout for each probe.
const (
	maxFailures = 8
	maxInARow   = 3
)

// broken returns the error that ends the walk after a probe, nil to go on.
func (r *run) broken(res *result) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if res.fatal != nil {
		return res.fatal
	}
	if r.inARow >= maxInARow || r.failures >= maxFailures {
		return fmt.Errorf("probe %s: %d requests without an answer: %w", r.profile.Repository, r.failures, r.last)
	}
	return nil
}

// An answer is the registry's, or the reason why there is none.
type answer struct {
	registry.Answer
	err error
}

func (a answer) is(statuses ...int) bool { return a.err == nil && slices.Contains(statuses, a.Status) }

// done reports whether the registry did what it was asked for.
func (a answer) done() bool { return a.err == nil && a.Status >= 200 && a.Status < 300 }

// denied reports whether the credentials do not do.
func (a answer) denied() bool { return a.is(401, 403) || errors.Is(a.err, registry.ErrDenied) }

// ask sends one request, with the scope of a pull or push unless call has others. A rate limit is
// waited out and the request repeated, up to twice; one without a body is repeated also after a 503
// and, once, after a broken connection. Anything else would hide what is to be found out.
func (r *run) ask(call registry.Call) answer {
	if call.Scopes == "" {
		call.Scopes = "repository:" + r.repo + ":pull"
		if call.Method != "GET" && call.Method != "HEAD" {
			call.Scopes += ",push"
		}
	}

	for n := 0; ; n++ {
		a, err := r.c.Call(r.ctx, call)
		r.see(a, err)
		var conn *registry.ConnError
		bare := len(call.Body) == 0 && call.Method != "DELETE"
		again := a.Status == 429 || bare && (a.Status == 503 || errors.As(err, &conn) && conn.Retryable() && n == 0)
		if !again || n == 2 {
			return answer{a, err}
		}
		if r.o.Sleep(r.ctx, time.Second) != nil {
			return answer{a, context.Cause(r.ctx)}
		}
	}
}

// see notes what any answer may tell, for the findings at the end: failures, rate limits, warnings.
func (r *run) see(a registry.Answer, err error) {
	// A cut on purpose, and an address that we refuse, are not failures of the registry.
	if err != nil {
		if _, ok := errors.AsType[*registry.ConnError](err); ok && !errors.Is(err, registry.ErrCut) && !errors.Is(err, registry.ErrUnsafe) {
			r.failures++
			r.inARow++
			r.last = err
		}
		return
	}

	r.inARow = 0
	if a.Status == 429 || a.Status == 503 {
		r.slowdowns++
	}

	for name := range a.Header {
		lower := strings.ToLower(name)
		if strings.Contains(lower, "ratelimit") || lower == "retry-after" {
			r.limits[name] = true
		}
	}

	for _, w := range a.Header["Warning"] {
		if len(r.warnings) < 100 {
			r.warnings[w] = true
		}
	}
}

func digestOf(data []byte) string { return digest.FromBytes(data).String() }
