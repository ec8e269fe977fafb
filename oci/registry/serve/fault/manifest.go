package fault

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"ocikit/oci"
	"ocikit/oci/registry/serve/exchange"
)

func itoa(n int) string { return strconv.Itoa(n) }

// setHeader makes a fault that sets a header of an answer, or removes it if value is "".
func setHeader(name, short string, applies func(c *call) bool, key, value string) *fault {
	return edits(name, short, applies, func(_ *call, status int, h http.Header) int {
		if status < 300 {
			h.Del(key)
			if value != "" {
				h.Set(key, value)
			}
		}
		return status
	})
}

// maxManifest bounds what is read of one.
const maxManifest = 4 << 20

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
			func(c *call) bool { return isPutManifest(c) && c.first(2, c.rt.Repo+" "+c.rt.Ref) },
			exchange.Fail(http.StatusBadRequest, exchange.CodeManifestBlobUnknown, "blob unknown to registry")),
		{Fault: Fault{"manifest-invalid", "the first PUT of a manifest finds a layer gone, and is refused with MANIFEST_INVALID"}, stored: true,
			applies: func(c *call) bool { return isPutManifest(c) && c.first(1, c.rt.Repo+" "+c.rt.Ref) }, commit: loseLayer},
		{Fault: Fault{"manifest-child", "GET of an index answers with the first manifest in it"}, stored: true, applies: isGetManifest, commit: answerChild},
		refuse("manifest-413", "PUT of a manifest is refused with 413", isPutManifest, exchange.Fail(http.StatusRequestEntityTooLarge, exchange.CodeManifestInvalid, "the manifest is too large")),
	}
}

// loseLayer removes a layer that the manifest names, unless another manifest needs it, and
// refuses the manifest without saying why.
func loseLayer(c *call, _ func() error) error {
	data, err := io.ReadAll(io.LimitReader(c.w.Body, maxManifest))
	if err != nil {
		return err
	}
	if err := c.store.LoseLayer(c.r, *c.rt, data); err != nil {
		return err
	}
	return c.answer(http.StatusBadRequest, exchange.CodeManifestInvalid, "manifest invalid")
}

// answerChild looks at the first manifest of an index in place of the index.
func answerChild(c *call, next func() error) error {
	if ref, ok := c.store.FirstChild(*c.rt); ok {
		c.note()
		c.rt.Ref = ref
	}
	return next()
}

func tagFaults() []*fault {
	several := func(c *call) bool { return isPutManifest(c) && c.r.URL.Query().Has("tag") }
	lists := func(c *call) bool { return c.rt.Kind == exchange.Tags }
	return []*fault{
		refuse("immutable-tags", "PUT of a manifest by a tag that is there already is refused with 400",
			func(c *call) bool { return isPutManifest(c) && c.store.HasTag(*c.rt) },
			exchange.Fail(http.StatusBadRequest, "TAG_INVALID", "the tag exists and is immutable")).onStore(),
		acts("tags-some", "PUT of a manifest with several tags sets only the first", several, func(c *call, next func() error) error {
			q := c.r.URL.Query()
			q["tag"] = q["tag"][:1]
			c.r.URL.RawQuery = q.Encode()
			return next()
		}),
		acts("tags-none", "PUT of a manifest ignores tags in the query", several, func(c *call, next func() error) error {
			c.r.URL.RawQuery = ""
			return next()
		}),
		marks("tags-comma", "PUT of a manifest with several tags lists them in one OCI-Tag header", several, func(_ *call, h http.Header) {
			if tags := h.Values("OCI-Tag"); len(tags) > 0 {
				h.Set("OCI-Tag", strings.Join(tags, ", "))
			}
		}),
		marks("tags-loop", "the list of tags has a Link to itself for ever", lists, func(c *call, h http.Header) {
			h.Set("Link", fmt.Sprintf(`<%s>; rel="next"`, c.r.URL.RequestURI()))
		}),
		marks("tags-foreign", "the list of tags has a Link to another host", lists, func(c *call, h http.Header) {
			h.Set("Link", fmt.Sprintf(`<%s://%s%s>; rel="next"`, exchange.Scheme(c.r), otherName(c.r.Host), c.r.URL.RequestURI()))
		}),
	}
}

// fallbackTag is the name of a list of referrers that clients keep themselves where there is no
// endpoint for it ("Referrers Tag Schema").
var fallbackTag = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^sha(256-[0-9a-f]{64}|512-[0-9a-f]{128})$`) })

func referrerFaults() []*fault {
	lists := func(c *call) bool { return c.rt.Kind == exchange.Referrers }
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
		silent("no-referrers", "there is no referrers endpoint, and no OCI-Subject", exchange.CodeUnsupported),
		silent("no-referrers-name", "the referrers endpoint answers 404 NAME_UNKNOWN, and there is no OCI-Subject", exchange.CodeNameUnknown),
		setHeader("no-subject", "there is a referrers endpoint, but no OCI-Subject", isPutManifest, "OCI-Subject", ""),
		{Fault: Fault{"fallback-lost", "the first list put under a fallback tag is overwritten at once by the one before"}, stored: true,
			applies: func(c *call) bool {
				return isPutManifest(c) && fallbackTag().MatchString(c.rt.Ref) && c.first(1, c.rt.Repo+" "+c.rt.Ref)
			},
			commit: loseUpdate},
	}
}

// loseUpdate takes back what a PUT did to a tag, behind the client's back.
func loseUpdate(c *call, next func() error) error {
	c.note()
	restore, err := c.store.KeepTag(c.r.Context(), *c.rt)
	if err != nil {
		return err
	}
	if err := next(); err != nil {
		return err
	}
	return restore()
}
