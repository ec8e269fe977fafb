package probe

import (
	"slices"
	"strings"

	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry"
)

func listProbes() []probe {
	row := func(id, asks string) Row { return Row{ID: id, Endpoint: "end-8a", Asks: asks} }
	return []probe{
		{Row: row("tags", "GET tags/list"), try: func(r *run) *result {
			a, tags := r.tags("")
			res := judge(a, Note, 200)
			if a.done() {
				res.say("%d tags", len(tags))
				r.checkLink(res, a)
			}
			if r.works["manifest-tag"] && a.Header.Get("Link") == "" && !slices.Contains(tags, r.tag) {
				res.violation("without the one that was set")
			}
			return res
		}},
		{Row: Row{ID: "tags-n", Endpoint: "end-8b", Asks: "GET tags/list?n=1"}, needs: "tags", try: (*run).tryPage},
		{Row: Row{ID: "tags-last", Endpoint: "end-8b", Asks: "GET tags/list?n=1&last= of the last tag there can be"}, needs: "tags", try: func(r *run) *result {
			a, tags := r.tags("?n=1&last=zzzzzzzz")
			res := judge(a, Note, 200)
			if len(tags) > 0 {
				res.note("%d tags: last is ignored", len(tags))
			}
			return res
		}},
		{Row: Row{ID: "tags-zero", Endpoint: "end-8b", Asks: "GET tags/list?n=0"}, needs: "tags", try: func(r *run) *result {
			a, tags := r.tags("?n=0")
			res := judge(a, Note, 200)
			if len(tags) > 0 {
				res.note("%d tags: n is ignored", len(tags))
			}
			return res
		}},
		{Row: row("tags-unknown", "GET tags/list of a repository that is not there"), try: func(r *run) *result {
			path := r.repo + "/" + r.tag
			return judge(r.ask(registry.Call{Endpoint: "end-8a", Method: "GET", Path: path + "/tags/list", Scopes: "repository:" + path + ":pull"}), Note, 404)
		}},
		{Row: Row{ID: "catalog", Endpoint: "-", Asks: "GET _catalog?n=1"}, try: func(r *run) *result {
			return judge(r.ask(registry.Call{Method: "GET", Path: "_catalog?n=1", Scopes: "registry:catalog:*", Limit: oci.MaxDocument}), OK)
		}},
		{Row: Row{ID: "referrers", Endpoint: "end-12", Asks: "GET referrers/ of a manifest"}, needs: "get", try: (*run).tryReferrers},
		{Row: Row{ID: "referrers-filter", Endpoint: "end-12", Asks: "GET referrers/ with an artifactType that nothing has"}, needs: "referrers", try: func(r *run) *result {
			a, list := r.referrers(r.doc.digest() + "?artifactType=application/vnd.ocikit.nothing")
			res := judge(a, Violation, 200)
			if !strings.Contains(a.Header.Get("OCI-Filters-Applied"), "artifactType") {
				return res.note("no OCI-Filters-Applied")
			}
			if len(list) > 0 {
				res.violation("%d referrers of another type", len(list))
			}
			return res
		}},
		{Row: Row{ID: "referrers-malformed", Endpoint: "end-12", Asks: "GET referrers/potato"}, needs: "referrers", try: func(r *run) *result {
			a, _ := r.referrers("potato")
			return judge(a, Note, 400)
		}},
		{Row: Row{ID: "referrers-tag", Endpoint: "end-3", Asks: "GET of the tag that stands in for the list of referrers"}, needs: "get", try: (*run).tryReferrersTag},
	}
}

// tags returns a page of the list of tags, nil if it cannot be read.
func (r *run) tags(query string) (answer, []string) {
	a := r.get("GET", "tags/list"+query)
	var page struct {
		Tags []string `json:"tags"`
	}
	if !a.done() || oci.Decode(a.Body, &page) != nil {
		return a, nil
	}
	return a, page.Tags
}

// tryPage asks for a single tag. If there are more, a Link has to lead to them.
func (r *run) tryPage() *result {
	a, tags := r.tags("?n=1")
	res := judge(a, Note, 200)
	if len(tags) > 1 {
		res.note("%d tags: n is ignored", len(tags))
	} else if len(tags) == 1 && a.Header.Get("Link") == "" && r.works["tags-at-once"] {
		res.note("one tag of several, and no Link")
	}
	r.checkLink(res, a)
	return res
}

// checkLink adds where the next page is, if there is one.
func (r *run) checkLink(res *result, a answer) {
	target, _, _ := strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
	switch path := strings.TrimPrefix(target, r.c.URL()); {
	case target == "":
	case strings.Contains(path, "//"):
		res.violation("Link to another host, %s", hostOf(target)).pushes(true, "does not follow it")
	case path == "/v2/"+r.repo+"/tags/list":
		res.violation("Link to itself").pushes(true, "does not follow it")
	default:
		res.say("Link")
	}
}

// referrers returns the list of referrers, nil if it cannot be read.
func (r *run) referrers(what string) (answer, []oci.Descriptor) {
	a := r.get("GET", "referrers/"+what)
	var page oci.Index
	if !a.done() || oci.Decode(a.Body, &page) != nil {
		return a, nil
	}
	return a, page.Manifests
}

// tryReferrersTag asks for a list that nobody has written. One registry answers with the manifest
// whose digest the tag spells (oras-project/oras-go#1396).
func (r *run) tryReferrersTag() *result {
	a := r.get("GET", "manifests/"+graph.FallbackTag(r.doc.desc.Digest), "Accept", oci.MediaTypeIndex+", "+oci.MediaTypeManifest)
	res := judge(a, Note, 404)
	if !a.done() {
		return res
	}
	found := oci.Describe(oci.SniffDocument(a.Body), a.Body)
	if found.Digest == r.doc.desc.Digest || !oci.IsIndex(found.MediaType) {
		return res.violation("it is the manifest itself, not a list").pushes(true, "does not take that for a list")
	}
	return res.say("a list")
}

// tryReferrers asks for the list of referrers, which has to hold the one that was stored.
func (r *run) tryReferrers() *result {
	a, list := r.referrers(r.doc.digest())
	res := judge(a, Note, 200)
	if !a.done() {
		return res.pushes(true, "keeps the list of referrers under a tag")
	}

	// Some registries answer every path with a 200. Only an index is a list of referrers.
	if t, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";"); t != oci.MediaTypeIndex {
		res.works = false
		return res.violation("Content-Type is %s", plain(t)).pushes(true, "keeps the list of referrers under a tag")
	}

	res.say("%d referrers", len(list))
	if r.referrer.data == nil {
		return res
	}

	i := slices.IndexFunc(list, func(d oci.Descriptor) bool { return d.Digest == r.referrer.desc.Digest })
	switch {
	case i < 0:
		res.violation("without the one that was stored")
	case list[i].ArtifactType != artifactType:
		res.violation("artifactType is %s, not %s", plain(list[i].ArtifactType), artifactType)
	}

	return res
}
