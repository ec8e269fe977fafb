package judge

import (
	"encoding/json"
	"strconv"
	"strings"

	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/wire"
)

// complete reports whether a body was asked for whole and came whole.
func (x *view) complete() bool {
	e := x.e
	return e.Status == 200 && e.Method == "GET" && e.Cut == "" && e.Ask("Range") == "" && (e.Announced == nil || *e.Announced == e.Received)
}

// blobRules are about reading blobs and manifests.
func blobRules() []rule {
	return []rule{
		{id: "blob-absent", ends: "end-2", level: Registry, last: true, text: func(x *view) string {
			n := x.c.named[x.rt.Repo+" "+x.rt.Ref]
			return when(x.e.Status == 404 && x.e.Method == "GET" && n > 0, "it has not the blob that its manifest of request %d names", n)
		}, advice: "push the image again: the registry has lost the blob"},
		{id: "absent", ends: "end-2 end-3 end-8a end-8b", level: Right, last: true, text: func(x *view) string {
			return when(x.e.Status == 404 && x.e.Method == "GET", "the registry has no such thing: %s%s", exchange.Plain(x.rt.Repo+refOf(x)), x.said())
		}, advice: "check the name: repository, tag, and whether it was pushed"},
		{id: "blob-bytes", ends: "end-2", level: Registry, text: func(x *view) string {
			return when(x.complete() && x.ok && known(x.rt.Ref, x.e.Answered.Digest) && x.rt.Ref != x.e.Answered.Digest, "the bytes that came have the digest %s", x.e.Answered.Digest)
		}, advice: "what is stored is damaged, or something before the registry changes bodies (compression, inspection): pull directly, compare, push again"},
		{id: "range-ignored", ends: "end-2", level: Tolerated, text: func(x *view) string {
			return when(x.e.Ask("Range") != "" && x.e.Status == 200, "the client asked for a part of a blob (Range) and got all of it: downloads cannot go on where they broke")
		}, advice: "let what stands before the registry pass Range on (nginx: no proxy_set_header Range \"\";)"},
		{id: "content-range", ends: "end-2", level: Registry, text: func(x *view) string {
			start, _, ok := wire.ParseContentRange(x.e.Head("Content-Range"))
			want, _, _ := strings.Cut(strings.TrimPrefix(x.e.Ask("Range"), "bytes="), "-")
			return when(x.e.Status == 206 && (!ok || want != "" && want != strconv.FormatInt(start, 10)), "the part of the blob that came is not the one that was asked for: Content-Range %s", wire.Quote(x.e.Head("Content-Range")))
		}, advice: "look at what stands before the registry: a cache, perhaps"},
		{id: "encoding", ends: "end-2 end-3", level: Registry, text: func(x *view) string {
			enc := x.e.Head("Content-Encoding")
			return when(enc != "" && enc != "identity" && !strings.Contains(x.e.Ask("Accept-Encoding"), enc), "the answer is compressed (%s) and the client did not ask for that", exchange.Plain(enc))
		}, advice: "turn off compression for /v2/ in what stands before the registry"},
		{id: "digest-header", ends: "end-2 end-3", level: Registry, text: func(x *view) string {
			got, want := x.e.Head("Docker-Content-Digest"), x.rt.Ref
			return when(x.ok && x.status(200) && strings.Contains(want, ":") && got != "" && got != want, "it answers for %s with Docker-Content-Digest %s", exchange.Plain(want), exchange.Plain(got))
		}, advice: "look at what stands before the registry: a cache, perhaps"},
		{id: "manifest-bytes", ends: "end-3", level: Registry, text: func(x *view) string {
			want := x.rt.Ref
			if !strings.Contains(want, ":") {
				want = x.e.Head("Docker-Content-Digest")
			}
			return when(x.complete() && known(want, x.e.Answered.Digest) && want != x.e.Answered.Digest, "the manifest that came has the digest %s, not %s: it was changed on its way", x.e.Answered.Digest, exchange.Plain(want))
		}, advice: "something before the registry changes bodies (compression, substitution, pretty printing): let it pass them as they are"},
		{id: "manifest-kind", ends: "end-3", level: Registry, text: func(x *view) string {
			t := x.e.Head("Content-Type")
			return when(x.status(200) && !strings.Contains(t, "manifest") && !strings.Contains(t, "index"), "a manifest comes with the Content-Type %s", wire.Quote(t))
		}, advice: "let what stands before the registry pass Content-Type on"},
	}
}

func refOf(x *view) string {
	switch {
	case x.rt.Ref == "":
		return ""
	case strings.Contains(x.rt.Ref, ":"):
		return "@" + x.rt.Ref
	}
	return ":" + x.rt.Ref
}

// answerRules are about lists, and about refusals that no rule before has explained.
func answerRules() []rule {
	return []rule{
		{id: "no-referrers", ends: "end-12a", level: Tolerated, last: true, text: func(x *view) string {
			return when(x.e.Status == 404, "there is no list of referrers (404): the client keeps it under a tag")
		}},
		{id: "referrers-type", ends: "end-12a", level: Registry, text: func(x *view) string {
			t := x.e.Head("Content-Type")
			return when(x.e.Status == 200 && !strings.HasPrefix(t, "application/vnd.oci.image.index.v1+json"), "the list of referrers has the Content-Type %s", wire.Quote(t))
		}, advice: "look at what stands before the registry"},
		{id: "tags", ends: "end-8a end-8b", level: Registry, text: func(x *view) string {
			var doc struct{ Tags []string }
			bad := x.e.Answered.Text == nil || json.Unmarshal([]byte(*x.e.Answered.Text), &doc) != nil
			return when(x.complete() && x.e.Received <= 64<<10 && bad, "the list of tags is not JSON of the form {\"name\": …, \"tags\": […]}")
		}, advice: "look at what stands before the registry"},
		{id: "refused", level: Client, last: true, text: func(x *view) string {
			return when(x.e.Status >= 400 && x.e.Status != 404, "the registry refuses: %d%s", x.e.Status, x.said())
		}, advice: "look at what it says"},
		{id: "proxy-error", level: Tolerated, text: func(x *view) string {
			return when(x.e.Status >= 400 && x.e.Method != "HEAD" && x.e.Received > 0 && len(x.e.Errors) == 0 && x.ok, "the error is not in the form of the specification: it comes from %s", x.server())
		}},
		{id: "away", ends: "end-5 end-6", level: Tolerated, text: func(x *view) string {
			return when(x.e.Away && x.e.Ask("Authorization") != "", "the upload goes to another host, which gets no credentials of the client")
		}},
	}
}
