package serve

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
)

func itoa(n int) string { return strconv.Itoa(n) }

// setHeader makes a fault that sets a header of an answer, or removes it if value is "".
func setHeader(name, short string, applies func(c *call) bool, key, value string) *fault {
	return &fault{Fault: Fault{name, short}, applies: applies, commit: func(c *call, next func() error) error {
		return c.edit(next, func(status int, h http.Header) int {
			if status < 300 {
				h.Del(key)
				if value != "" {
					h.Set(key, value)
				}
			}
			return status
		})
	}}
}

// wrongDigest is that of no manifest.
const wrongDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func manifestFaults() []*fault {
	return []*fault{
		setHeader("manifest-put-digest", "PUT of a manifest answers with a wrong Docker-Content-Digest", isPutManifest, "Docker-Content-Digest", wrongDigest),
		setHeader("manifest-put-bare", "PUT of a manifest answers without Docker-Content-Digest", isPutManifest, "Docker-Content-Digest", ""),
		setHeader("manifest-get-digest", "GET of a manifest answers with a wrong Docker-Content-Digest", isGetManifest, "Docker-Content-Digest", wrongDigest),
		setHeader("manifest-get-bare", "GET of a manifest answers without Docker-Content-Digest", isGetManifest, "Docker-Content-Digest", ""),
		setHeader("manifest-charset", "GET of a manifest answers with a parameter in Content-Type", isGetManifest, "Content-Type", oci.MediaTypeManifest+"; charset=utf-8"),
		setHeader("manifest-type", "GET of a manifest answers with the Content-Type of an index", isGetManifest, "Content-Type", oci.MediaTypeIndex),
		refuse("manifest-blob-unknown", "the first two PUTs of a manifest are refused with MANIFEST_BLOB_UNKNOWN",
			func(c *call) bool { return isPutManifest(c) && c.first(2, c.rt.repo+" "+c.rt.ref) },
			http.StatusBadRequest, codeManifestBlobUnknown, "blob unknown to registry"),
		{Fault: Fault{"manifest-invalid", "the first PUT of a manifest finds a layer gone, and is refused with MANIFEST_INVALID"},
			applies: func(c *call) bool { return isPutManifest(c) && c.first(1, c.rt.repo+" "+c.rt.ref) }, commit: loseLayer},
		{Fault: Fault{"manifest-child", "GET of an index answers with the first manifest in it"}, applies: isGetManifest, commit: answerChild},
		refuse("manifest-413", "PUT of a manifest is refused with 413", isPutManifest, http.StatusRequestEntityTooLarge, codeManifestInvalid, "the manifest is too large"),
	}
}

// loseLayer removes a layer that the manifest names, unless another manifest needs it, and
// refuses the manifest without saying why.
func loseLayer(c *call, _ func() error) error {
	data, err := io.ReadAll(io.LimitReader(c.w.body, maxManifest))
	if err != nil {
		return err
	}
	m, err := parseManifest(c.r, data, digest.Digest{})
	if err != nil {
		return err
	}
	l, err := c.s.openRepo(c.rt.repo)
	if err != nil {
		return err
	}
	defer l.Close()
	err = l.Update(c.r.Context(), func(x *oci.Index) error {
		lost := m.refs[len(m.refs)-1].Digest
		if err := checkUnused(l, x.Manifests, lost); err != nil {
			return err
		}
		return l.RemoveBlob(lost)
	})
	if err != nil {
		return err
	}
	return c.answer(http.StatusBadRequest, codeManifestInvalid, "manifest invalid")
}

// answerChild looks at the first manifest of an index in place of the index.
func answerChild(c *call, next func() error) error {
	tag, d, err := reference(c.rt.ref)
	if err != nil {
		return next()
	}
	l, err := c.s.openRepo(c.rt.repo)
	if err != nil {
		return next()
	}
	defer l.Close()
	desc, err := c.s.find(c.rt.repo, l, tag, d)
	if err != nil || !oci.IsIndex(desc.MediaType) {
		return next()
	}
	data, err := l.Document(desc)
	if err != nil {
		return next()
	}
	x, err := oci.DecodeIndex(desc, data)
	if err != nil || len(x.Manifests) == 0 {
		return next()
	}
	c.note()
	return c.s.getManifest(c.w, c.r, route{kind: endManifest, repo: c.rt.repo, ref: x.Manifests[0].Digest.String()})
}

func tagFaults() []*fault {
	several := func(c *call) bool { return isPutManifest(c) && c.r.URL.Query().Has("tag") }
	lists := func(c *call) bool { return c.rt.kind == endTags }
	return []*fault{
		refuse("immutable-tags", "PUT of a manifest by a tag that is there already is refused with 400",
			func(c *call) bool { return isPutManifest(c) && c.s.hasTag(c.rt) },
			http.StatusBadRequest, "TAG_INVALID", "the tag exists and is immutable"),
		{Fault: Fault{"tags-some", "PUT of a manifest with several tags sets only the first"}, applies: several,
			commit: func(c *call, next func() error) error {
				c.note()
				q := c.r.URL.Query()
				q["tag"] = q["tag"][:1]
				c.r.URL.RawQuery = q.Encode()
				return next()
			}},
		{Fault: Fault{"tags-none", "PUT of a manifest ignores tags in the query"}, applies: several,
			commit: func(c *call, next func() error) error { c.note(); c.r.URL.RawQuery = ""; return next() }},
		{Fault: Fault{"tags-comma", "PUT of a manifest with several tags lists them in one OCI-Tag header"}, applies: several,
			commit: func(c *call, next func() error) error {
				return c.edit(next, func(status int, h http.Header) int {
					if tags := h.Values("OCI-Tag"); len(tags) > 0 {
						h.Set("OCI-Tag", strings.Join(tags, ", "))
					}
					return status
				})
			}},
		{Fault: Fault{"tags-loop", "the list of tags has a Link to itself for ever"},
			applies: lists,
			commit: func(c *call, next func() error) error {
				return c.edit(next, func(status int, h http.Header) int {
					h.Set("Link", fmt.Sprintf(`<%s>; rel="next"`, c.r.URL.RequestURI()))
					return status
				})
			}},
		{Fault: Fault{"tags-foreign", "the list of tags has a Link to another host"},
			applies: lists,
			commit: func(c *call, next func() error) error {
				return c.edit(next, func(status int, h http.Header) int {
					h.Set("Link", fmt.Sprintf(`<%s://%s%s>; rel="next"`, scheme(c.r), otherName(c.r.Host), c.r.URL.RequestURI()))
					return status
				})
			}},
	}
}

func (s *Server) hasTag(rt route) bool {
	l, err := s.openRepo(rt.repo)
	if err != nil || checkTag(rt.ref) != nil {
		return false
	}
	defer l.Close()
	_, err = s.find(rt.repo, l, rt.ref, digest.Digest{})
	return err == nil
}

// fallbackTag is the name of a list of referrers that clients keep themselves where there is no
// endpoint for it ("Referrers Tag Schema").
var fallbackTag = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^sha(256-[0-9a-f]{64}|512-[0-9a-f]{128})$`) })

func referrerFaults() []*fault {
	lists := func(c *call) bool { return c.rt.kind == endReferrers }
	silent := func(name, short, code string) *fault {
		return &fault{Fault: Fault{name, short}, applies: func(c *call) bool { return lists(c) || isPutManifest(c) },
			commit: func(c *call, next func() error) error {
				if lists(c) {
					return c.answer(http.StatusNotFound, code, "not found")
				}
				return c.edit(next, func(status int, h http.Header) int { h.Del("OCI-Subject"); return status })
			}}
	}
	return []*fault{
		silent("no-referrers", "there is no referrers endpoint, and no OCI-Subject", codeUnsupported),
		silent("no-referrers-name", "the referrers endpoint answers 404 NAME_UNKNOWN, and there is no OCI-Subject", codeNameUnknown),
		setHeader("no-subject", "there is a referrers endpoint, but no OCI-Subject", isPutManifest, "OCI-Subject", ""),
		{Fault: Fault{"fallback-lost", "the first list put under a fallback tag is overwritten at once by the one before"},
			applies: func(c *call) bool {
				return isPutManifest(c) && fallbackTag().MatchString(c.rt.ref) && c.first(1, c.rt.repo+" "+c.rt.ref)
			},
			commit: loseUpdate},
	}
}

// loseUpdate takes back what a PUT did to a tag, behind the client's back.
func loseUpdate(c *call, next func() error) error {
	c.note()
	l, err := c.s.makeRepo(c.rt.repo)
	if err != nil {
		return err
	}
	defer l.Close()
	hasTag := func(e oci.Descriptor) bool { return slices.Contains(names(e), c.rt.ref) }
	before, err := l.Index()
	if err != nil {
		return err
	}
	if err := next(); err != nil {
		return err
	}
	return l.Update(c.r.Context(), func(x *oci.Index) error {
		x.Manifests = slices.DeleteFunc(x.Manifests, hasTag)
		if i := slices.IndexFunc(before.Manifests, hasTag); i >= 0 {
			x.Manifests = append(x.Manifests, before.Manifests[i])
		}
		return nil
	})
}
