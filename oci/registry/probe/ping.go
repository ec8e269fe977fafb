package probe

import (
	"maps"
	"slices"
	"strings"

	"ocikit/oci/registry"
)

func pingProbes() []probe {
	return []probe{
		{Row: Row{ID: "ping", Endpoint: "end-1", Asks: "GET /v2/"}, try: (*run).ping},
		{Row: Row{ID: "auth", Endpoint: "end-1", Asks: "how requests are to be authorized"}, try: (*run).authorization},
		{Row: Row{ID: "ping-slash", Endpoint: "end-1", Asks: "GET /v2"}, try: func(r *run) *result {
			return judge(r.ask(registry.Call{Endpoint: "end-1", Method: "GET", Path: "../v2", Stay: true}), OK)
		}},
	}
}

// ping asks whether there is a registry that lets us in. If not, nothing else is tried.
func (r *run) ping() *result {
	p, err := r.c.Ping(r.ctx)
	if err != nil {
		return &result{fatal: err}
	}
	a := r.ask(registry.Call{Endpoint: "end-1", Method: "GET"})
	r.pinged = p
	r.profile.URL, r.profile.Proto, r.profile.TLS = p.URL, a.Proto, a.TLS
	res := judge(a, Violation, 200)
	if p.APIVersion == "" {
		return res.say("no API version, which is optional")
	}
	return res.say("API version %s", plain(p.APIVersion))
}

// authorization says what the first answer asked for. Realms are named by their host alone: the rest
// may be secret.
func (r *run) authorization() *result {
	p := r.pinged
	res := &result{level: OK, works: true}
	if p.Anonymous {
		res.say("anonymous requests are answered")
	}

	for _, ch := range p.Challenges[:min(len(p.Challenges), 8)] {
		text := "wants " + plain(ch.Scheme)
		if realm := ch.Params["realm"]; ch.Scheme == "bearer" && strings.Contains(realm, "//") {
			text += " from " + hostOf(realm)
		} else if ch.Scheme == "bearer" {
			text += " from the registry itself"
		}
		if service := ch.Params["service"]; service != "" {
			text += " for service " + plain(service)
		}
		res.say("%s", text)
		if !slices.Contains([]string{"basic", "bearer"}, ch.Scheme) {
			res.note("ocikit knows basic and bearer alone")
		}
	}

	if len(res.got) == 0 {
		res.note("credentials are wanted, without a word about how")
	}

	return res
}

// lastProbes send nothing: they sum up what the answers to all others had in common.
func lastProbes() []probe {
	return []probe{
		{Row: Row{ID: "warnings", Endpoint: "-", Asks: "Warning headers of all answers"}, try: func(r *run) *result {
			res := &result{level: OK, works: true}
			if len(r.warnings) == 0 {
				return res.say("none")
			}
			return res.note("%d different ones, as %s", len(r.warnings), plain(slices.Sorted(maps.Keys(r.warnings))[0])).pushes(true, "shows each once")
		}},
		{Row: Row{ID: "rate-limit", Endpoint: "-", Asks: "headers and refusals about rates in all answers"}, try: func(r *run) *result {
			res := &result{level: OK, works: true}
			for _, name := range slices.Sorted(maps.Keys(r.limits))[:min(len(r.limits), 8)] {
				res.say("%s", plain(name))
			}
			if r.slowdowns > 0 {
				return res.note("%d requests refused with 429 or 503", r.slowdowns).pushes(true, "waits as long as the registry asks, a minute at most")
			}
			if len(res.got) == 0 {
				res.say("none")
			}
			return res
		}},
	}
}
