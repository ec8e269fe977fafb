package tap

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/wire"
)

// A place is an address that the registry has named, on another origin than its own.
type place struct {
	url   *url.URL
	kind  exchange.Endpoint // what is to be had there: a token, a blob, an upload
	trust bool              // the client's credentials are meant for it
}

// places remembers what addresses of the tap stand for.
type places struct {
	registry *url.URL

	mu    sync.Mutex
	byID  map[string]*place
	order []string // the oldest first
	asked string   // the latest challenge for a token, with an address of the tap
}

// maxPlaces bounds what is remembered. Addresses of storage are good for one blob.
const maxPlaces = 4096

// placePath begins the path of every address that stands for another.
const placePath = "/-/to/"

func newPlaces(registry *url.URL) *places {
	return &places{registry: registry, byID: map[string]*place{}}
}

func isPlace(path string) bool { return strings.HasPrefix(path, placePath) }

// put returns the path that stands for a place from now on: the same one for the same address.
func (ps *places) put(p place) string {
	sum := sha256.Sum256([]byte(p.url.String()))
	id := hex.EncodeToString(sum[:8])
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if _, known := ps.byID[id]; !known {
		if len(ps.order) >= maxPlaces {
			delete(ps.byID, ps.order[0])
			ps.order = slices.Delete(ps.order, 0, 1)
		}
		ps.order = append(ps.order, id)
	}
	ps.byID[id] = &p
	return placePath + id
}

// get returns the place that the path of a request stands for, and its address with the query that
// the client has added; nil if it is not known (any more).
func (ps *places) get(u *url.URL) (*place, *url.URL) {
	ps.mu.Lock()
	p := ps.byID[strings.TrimPrefix(u.Path, placePath)]
	ps.mu.Unlock()
	if p == nil {
		return nil, nil
	}
	target := *p.url
	if u.RawQuery != "" {
		wire.AddQuery(&target, u.RawQuery)
	}
	return p, &target
}

// rewrite returns the address on the tap that stands for location, which an answer from the address
// from has named. base is the scheme and host by which the client finds the tap. A relative location
// on the registry stays as it is: the client resolves it against the tap.
func (ps *places) rewrite(base, location string, from *url.URL, p place) string {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" {
		return location
	}

	home := wire.Origin(from) == wire.Origin(ps.registry)
	if u.Host == "" && home {
		return location
	}

	u = from.ResolveReference(u)
	if wire.Origin(u) == wire.Origin(ps.registry) {
		rest := *u
		rest.Scheme, rest.Host, rest.User = "", "", nil
		return base + rest.String()
	}

	p.url = u

	// Clients send credentials to the same host on another port; storage has another name.
	p.trust = p.trust || u.Hostname() == ps.registry.Hostname() && p.kind == exchange.Upload
	return base + ps.put(p)
}

var realmGrammar = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)(\brealm\s*=\s*")(https?://[^"\\]*)(")`) })

// rewriteHeader changes the addresses in an answer, so that the client stays on the tap.
func (ps *places) rewriteHeader(h http.Header, base string, from *url.URL, rt exchange.Route, status int) {
	kind := rt.Kind
	if kind == exchange.Uploads {
		kind = exchange.Upload
	}

	if loc := h.Get("Location"); loc != "" {
		// The target of a redirect gets no credentials: clients send none to another host.
		redirect := status >= 300 && status < 400
		h.Set("Location", ps.rewrite(base, loc, from, place{kind: kind, trust: redirect && kind == exchange.Token}))
	}

	if links := h.Values("Link"); len(links) > 0 {
		for i, link := range links {
			before, rest, ok := strings.Cut(link, "<")
			target, after, closed := strings.Cut(rest, ">")
			if ok && closed {
				links[i] = before + "<" + ps.rewrite(base, target, from, place{kind: kind}) + ">" + after
			}
		}
	}

	// The challenge is kept for the faults that need one. A zero byte stands for the address of
	// the tap, which each client may know by another name.
	for i, text := range h.Values("Www-Authenticate") {
		text = realmGrammar().ReplaceAllStringFunc(text, func(m string) string {
			parts := realmGrammar().FindStringSubmatch(m)
			return parts[1] + ps.rewrite(base, parts[2], from, place{kind: exchange.Token, trust: true}) + parts[3]
		})
		h["Www-Authenticate"][i] = text
		if strings.HasPrefix(strings.ToLower(text), "bearer ") {
			ps.mu.Lock()
			ps.asked = strings.Replace(text, base, "\x00", 1)
			ps.mu.Unlock()
		}
	}
}

// challenge returns the latest challenge for a token, for a client that finds the tap at base.
func (ps *places) challenge(base string) string {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return strings.Replace(ps.asked, "\x00", base, 1)
}
