package judge

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/wire"
)

// expected returns how much the registry should hold after the request, if that is known.
func (x *view) expected() (n int64, ok bool) {
	if x.e.From == nil {
		return 0, false
	}
	return *x.e.From + x.e.Sent, true
}

// uploadRules are about the endpoints that push a blob. The digest comes first: if it is known who
// changed the bytes, nothing else matters.
func uploadRules() []rule {
	return []rule{
		{id: "digest-client", ends: "end-6 end-4b", level: Client, last: true, text: func(x *view) string {
			want, got := x.query("digest"), x.whole()
			return when(x.e.Status == 400 && known(want, got) && want != got, "it sent bytes of the digest %s and called them %s", got, exchange.Plain(want))
		}, advice: "the client's copy of the blob is damaged or changed while it was sent: make or pull the image anew"},
		{id: "digest-registry", ends: "end-6 end-4b", level: Registry, last: true, text: func(x *view) string {
			want, got := x.query("digest"), x.whole()
			return when(x.e.Status == 400 && x.e.HasCode(exchange.CodeDigestInvalid) && known(want, got) && want == got, "it finds another digest, but the bytes that passed have the right one")
		}, advice: "something behind the tap changes or loses bytes: look at what stands before the registry, and at its storage"},
		{id: "digest-taken", ends: "end-6 end-4b", level: Registry, last: true, text: func(x *view) string {
			want, got := x.query("digest"), x.whole()
			return when(x.e.Status == 201 && known(want, got) && want != got, "it took bytes of the digest %s as %s", got, exchange.Plain(want))
		}, advice: "do not trust what is stored there: the registry does not check digests"},
		{id: "digest-unknown", ends: "end-6 end-4b", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Status == 400 && x.e.Unhashed, "it refuses a large blob%s, and nobody has computed here which digest passed", x.said())
		}, advice: "push it again through the tap, which computes all digests from now on and says who is wrong"},
		{id: "no-digest", ends: "end-6", level: Client, last: true, text: func(x *view) string {
			return when(x.query("digest") == "", "its last request of an upload does not name the digest")
		}, advice: "the client must add digest= to the Location"},
		{id: "session-lost", ends: "end-5 end-6 end-13", level: Registry, last: true, text: func(x *view) string {
			lost := x.e.Status == 404 || x.e.HasCode(exchange.CodeUploadUnknown)
			return when(lost && x.c.open(x.e.Session), "it has forgotten the upload that it opened itself%s", x.said())
		}, advice: "if several registries answer under one name, give them one storage and one secret (distribution: http.secret), or lead a session to one of them"},
		{id: "session-unknown", ends: "end-5 end-6 end-13", level: Client, last: true, text: func(x *view) string {
			return when(x.e.Status == 404, "it goes on with an upload that is not open%s", x.said())
		}, advice: "the client should begin the upload anew"},
		{id: "out-of-order", ends: uploading, level: Client, last: true, text: func(x *view) string {
			if x.e.Status != 416 {
				return ""
			}
			return when(x.e.Offset != nil && x.e.From != nil && *x.e.From != *x.e.Offset, "it goes on at byte %d, the registry holds %d", deref(x.e.From), deref(x.e.Offset))
		}, advice: "the client should ask for the status of the upload and go on there"},
		{id: "range-refused", ends: uploading, level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Status == 416, "it refuses a chunk that goes on where the last answer ended (416)%s", x.said())
		}, advice: "if several registries answer under one name, lead a session to one of them; else use a client that sends a blob in one request"},
		{id: "patch-refused", ends: "end-5", level: Registry, last: true, text: func(x *view) string {
			return when(x.status(404, 405), "it takes no PATCH: %d%s", x.e.Status, x.said())
		}, advice: "let what stands before the registry pass PATCH on"},
		{id: "location-missing", ends: "end-4a end-5 end-11", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Status == 202 && x.e.Head("Location") == "", "a 202 does not say where to go on (no Location)")
		}, advice: "let what stands before the registry pass Location on"},
		{id: "start", ends: "end-4a", level: Registry, text: func(x *view) string {
			return when(x.status(200, 201, 204), "an upload is opened with %d, want 202", x.e.Status)
		}, advice: "look at what stands before the registry"},
		{id: "stale", ends: uploading, level: Tolerated, text: func(x *view) string {
			return when(x.e.From != nil && !x.e.Latest, "the request does not use the Location of the last answer")
		}},
		{id: "range-missing", ends: "end-5", level: Registry, text: func(x *view) string {
			return when(x.e.Status == 202 && x.e.Head("Range") == "", "the answer to a chunk does not say how far the upload is (no Range)")
		}, advice: "let what stands before the registry pass Range on: it is a header of answers, too"},
		{id: "range-wrong", ends: "end-5", level: Registry, text: func(x *view) string {
			n, ok := x.expected()
			return when(ok && x.e.Status == 202 && x.e.Offset != nil && *x.e.Offset != n && !(n == 1 && *x.e.Offset == 0), "it says that it holds %d bytes, %d were sent", deref(x.e.Offset), n)
		}, advice: "look at what stands before the registry: it may cut or repeat bodies"},
		{id: "patch-status", ends: "end-5", level: Tolerated, text: func(x *view) string {
			return when(x.status(200, 201, 204), "a chunk is taken with %d, want 202", x.e.Status)
		}},
		{id: "commit-status", ends: "end-6 end-4b", level: Tolerated, text: func(x *view) string {
			return when(x.status(200, 204) || x.e.Endpoint == "end-6" && x.e.Status == 202, "a blob is taken with %d, want 201", x.e.Status)
		}},
		{id: "commit-location", ends: "end-6 end-4b end-7a end-7b", level: Tolerated, text: func(x *view) string {
			return when(x.e.Status == 201 && x.e.Head("Location") == "", "a 201 does not say where the content is (no Location)")
		}},
		{id: "upload-refused", ends: "end-4a end-4b end-5 end-6 end-11", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Status >= 400, "it refuses a request that follows the specification: %d%s", x.e.Status, x.said())
		}, advice: "look at what it says, and into its log at this time"},
	}
}

// whole returns the digest of the bytes that passed, if they were all of the blob.
func (x *view) whole() string {
	if x.e.Endpoint == "end-4b" {
		return x.e.Asked.Digest
	}
	return x.e.Whole
}

// known reports whether two digests can be compared: the tap computes sha256 alone.
func known(want, got string) bool {
	d, err := digest.Parse(want)
	return err == nil && got != "" && d.Algorithm() == digest.SHA256
}

func deref(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// refs returns the digests that a manifest or an index names.
func refs(text string) []string {
	var doc struct {
		Config    *struct{ Digest string }
		Layers    []struct{ Digest string }
		Manifests []struct{ Digest string }
	}
	if json.Unmarshal([]byte(text), &doc) != nil {
		return nil
	}

	var list []string
	if doc.Config != nil {
		list = append(list, doc.Config.Digest)
	}

	for _, l := range append(doc.Layers, doc.Manifests...) {
		list = append(list, l.Digest)
	}

	return list
}

// missing returns the digests in a manifest that the registry has not confirmed, and those that it has
// confirmed and now calls unknown.
func (x *view) missing() (absent, confirmed []string) {
	if x.e.Asked.Text == nil {
		return nil, nil
	}
	for _, ref := range refs(*x.e.Asked.Text) {
		if x.c.stored[x.rt.Repo+" "+ref] == 0 {
			absent = append(absent, short(ref, 80))
		} else if x.mentions(ref) {
			confirmed = append(confirmed, exchange.Plain(ref))
		}
	}
	return absent, confirmed
}

// mentions reports whether an error of the answer names a digest.
func (x *view) mentions(ref string) bool {
	return slices.ContainsFunc(x.e.Errors, func(i wire.ErrorInfo) bool { return strings.Contains(i.Message+i.Detail, ref) })
}

// manifestRules are about storing a manifest, which shows what an earlier request did not do.
func manifestRules() []rule {
	return []rule{
		{id: "blob-forgotten", ends: manifests, level: Registry, last: true, text: func(x *view) string {
			_, confirmed := x.missing()
			if !x.e.HasCode(exchange.CodeManifestBlobUnknown) || len(confirmed) == 0 {
				return ""
			}
			return fmt.Sprintf("it says that %s is unknown, which it confirmed in request %d", confirmed[0], x.c.stored[x.rt.Repo+" "+confirmed[0]])
		}, advice: "several registries behind one name need one storage; else a garbage collection ran during the push"},
		{id: "blob-missing", ends: manifests, level: Client, last: true, text: func(x *view) string {
			absent, _ := x.missing()
			return when(x.status(400, 404) && x.e.HasCode(exchange.CodeManifestBlobUnknown) && len(absent) > 0, "it puts a manifest whose blob %s is not in this repository", cmp.Or(absent...))
		}, advice: "the client must push or mount all blobs into this repository before the manifest"},
		{id: "manifest-type", ends: manifests, level: Client, last: true, text: func(x *view) string {
			return when(x.e.Status >= 400 && x.e.Ask("Content-Type") == "", "it puts a manifest without a Content-Type")
		}, advice: "the client must send the media type of the manifest"},
		{id: "manifest-torn", ends: manifests, level: Client, last: true, text: func(x *view) string {
			// The text is that of valid JSON, which is always kept if it is this short.
			torn := x.e.Asked.Text == nil && x.e.Asked.Size > 0 && x.e.Asked.Size <= 64<<10 && strings.Contains(x.e.Ask("Content-Type"), "json")
			return when(x.e.Status == 400 && torn, "it puts a manifest that is not JSON, of %d bytes", x.e.Asked.Size)
		}, advice: "look at what makes the manifest: its bytes are torn, or not those of a manifest"},
		{id: "manifest-digest-client", ends: manifests, level: Client, last: true, text: func(x *view) string {
			return when(x.e.Status == 400 && known(x.rt.Ref, x.e.Asked.Digest) && x.rt.Ref != x.e.Asked.Digest, "it puts a manifest of the digest %s under the name %s", x.e.Asked.Digest, exchange.Plain(x.rt.Ref))
		}, advice: "the client must name the digest of exactly the bytes that it sends: it may have formatted the manifest anew"},
		{id: "manifest-refused", ends: manifests, level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Status >= 400, "it refuses the manifest: %d%s", x.e.Status, x.said())
		}, advice: "look at what it says: an immutable tag, a media type that it does not know"},
		{id: "manifest-digest-put", ends: manifests, level: Registry, text: func(x *view) string {
			got := x.e.Head("Docker-Content-Digest")
			return when(x.e.Status == 201 && known(got, x.e.Asked.Digest) && got != x.e.Asked.Digest, "it calls the manifest %s, the bytes that passed have %s", exchange.Plain(got), x.e.Asked.Digest)
		}, advice: "something behind the tap changes manifests: look at what stands before the registry"},
		{id: "subject", ends: manifests, level: Tolerated, text: func(x *view) string {
			var doc struct{ Subject *struct{ Digest string } }
			has := x.e.Asked.Text != nil && json.Unmarshal([]byte(*x.e.Asked.Text), &doc) == nil && doc.Subject != nil
			return when(has && x.e.Status == 201 && x.e.Head("Oci-Subject") == "", "the manifest has a subject and the answer no OCI-Subject: the client keeps the list of referrers itself")
		}},
		{id: "manifest-status", ends: manifests, level: Tolerated, text: func(x *view) string {
			return when(x.status(200, 202, 204), "a manifest is taken with %d, want 201", x.e.Status)
		}},
	}
}
