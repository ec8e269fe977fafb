package regtest

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
)

func (g *Registry) manifest(w http.ResponseWriter, r *http.Request, repo, name string) {
	switch r.Method {
	case http.MethodPut:
		g.putManifest(w, r, repo, name)
	case http.MethodDelete:
		g.mu.Lock()
		defer g.mu.Unlock()
		if _, ok := g.tags[repo+":"+name]; !ok && g.manifests[repo+"@"+name].data == nil {
			fail(w, 404, "MANIFEST_UNKNOWN", name)
			return
		}
		delete(g.tags, repo+":"+name)
		delete(g.manifests, repo+"@"+name)
		w.WriteHeader(202)
	default:
		g.getManifest(w, r, repo, name)
	}
}

func (g *Registry) getManifest(w http.ResponseWriter, r *http.Request, repo, name string) {
	g.mu.Lock()
	if d, ok := g.tags[repo+":"+name]; ok {
		name = d.String()
	}
	m, ok := g.manifests[repo+"@"+name]
	g.mu.Unlock()
	if !ok || !strings.Contains(r.Header.Get("Accept"), m.mediaType) {
		fail(w, 404, "MANIFEST_UNKNOWN", name)
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(m.data)))
	if !g.NoDigestHeader {
		w.Header().Set("Docker-Content-Digest", name)
	}
	if r.Method == http.MethodGet {
		w.Write(m.data)
	}
}

func (g *Registry) putManifest(w http.ResponseWriter, r *http.Request, repo, name string) {
	data, err := io.ReadAll(r.Body)
	d := digest.FromBytes(data)
	if byDigest, perr := digest.Parse(name); perr == nil {
		d = digestOf(byDigest, data)
		if d != byDigest {
			err = digest.ErrMismatch
		}
	}
	if err != nil {
		fail(w, 400, "DIGEST_INVALID", err.Error())
		return
	}
	desc := oci.Descriptor{MediaType: r.Header.Get("Content-Type"), Digest: d, Size: int64(len(data))}
	refs, err := oci.References(desc, data)
	if err != nil || !oci.IsIndex(desc.MediaType) && !oci.IsManifest(desc.MediaType) {
		fail(w, 400, "MANIFEST_INVALID", desc.MediaType)
		return
	}
	for _, ref := range refs {
		if !g.Has(repo, ref.Digest) {
			code := "MANIFEST_BLOB_UNKNOWN"
			if g.HideMissingBlobs {
				code = "MANIFEST_INVALID"
			}
			fail(w, 400, code, ref.Digest.String())
			return
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var tags []string
	if _, err := digest.Parse(name); err != nil {
		tags = []string{name}
	} else if !g.NoMultiTag {
		tags = r.URL.Query()["tag"]
	}
	for _, tag := range tags {
		if _, exists := g.tags[repo+":"+tag]; exists && g.ImmutableTags {
			fail(w, 400, "TAG_INVALID", "tag is immutable")
			return
		}
	}
	for _, tag := range tags {
		g.tags[repo+":"+tag] = d
		if tag != name {
			w.Header().Add("OCI-Tag", tag)
		}
	}
	g.manifests[repo+"@"+d.String()] = manifest{desc.MediaType, data}
	if s := subject(desc, data); s != nil && g.NoReferrers == 0 && !g.NoSubjectHeader {
		w.Header().Set("OCI-Subject", s.Digest.String())
	}
	w.Header().Set("Location", "/v2/"+repo+"/manifests/"+d.String())
	if !g.NoDigestHeader {
		w.Header().Set("Docker-Content-Digest", d.String())
	}
	w.WriteHeader(201)
}

func subject(desc oci.Descriptor, data []byte) *oci.Descriptor {
	if m, err := oci.DecodeManifest(desc, data); err == nil {
		return m.Subject
	}
	if x, err := oci.DecodeIndex(desc, data); err == nil {
		return x.Subject
	}
	return nil
}

func (g *Registry) referrers(w http.ResponseWriter, r *http.Request, repo, name string) {
	if g.NoReferrers != 0 {
		fail(w, g.NoReferrers, "UNSUPPORTED", "")
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex}
	for key, m := range g.manifests {
		rest, ok := strings.CutPrefix(key, repo+"@")
		d, err := digest.Parse(rest)
		if !ok || err != nil {
			continue
		}
		desc := oci.Descriptor{MediaType: m.mediaType, Digest: d, Size: int64(len(m.data))}
		if s := subject(desc, m.data); s != nil && s.Digest.String() == name {
			x.Manifests = append(x.Manifests, desc)
		}
	}
	slices.SortFunc(x.Manifests, func(a, b oci.Descriptor) int { return digest.Compare(a.Digest, b.Digest) })
	data, _ := oci.Encode(x)
	w.Header().Set("Content-Type", oci.MediaTypeIndex)
	w.Write(data)
}

func sortStrings(s []string) { slices.Sort(s) }
