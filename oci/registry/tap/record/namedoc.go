package record

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// content are the endpoints whose bodies are known by their digests to everybody who has the image.
const content = "end-2 end-3 end-4b end-5 end-6 end-7a end-7b"

// body keeps of a document what makes an image. The digest of any other document, a list of tags for
// one, is taken out: it would tell whether a guess of its names is right.
func (n *Namer) body(endpoint string, b Body) Body {
	if !slices.Contains(strings.Fields(content), endpoint) {
		b.Digest = ""
	}

	if b.Text == nil {
		return b
	}

	var doc any
	if json.Unmarshal([]byte(*b.Text), &doc) != nil {
		b.Text = nil
		return b
	}

	data, err := json.Marshal(n.bare(doc, ""))
	if err != nil {
		b.Text = nil
		return b
	}

	b.Text = new(string(data))
	return b
}

// members are those of manifests, indexes, configs, lists, errors and tokens. Any other key of a
// document may be a name itself, as those of labels and annotations are.
func members() []string {
	return []string{
		"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "digest", "size",
		"platform", "architecture", "os", "variant", "rootfs", "type", "diff_ids", "history", "empty_layer", "created",
		"fsLayers", "blobSum", "name", "tag", "tags", "repositories", "errors", "code", "message", "detail",
		"token", "access_token", "refresh_token", "expires_in", "issued_at", "scope",
	}
}

// bare returns a value of JSON, found under key, without the members and texts that may hold a name.
func (n *Namer) bare(v any, key string) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, inner := range v {
			if slices.Contains(members(), k) {
				out[k] = n.bare(inner, k)
			}
		}
		return out
	case []any:
		out := []any{}
		for _, inner := range v {
			out = append(out, n.bare(inner, key))
		}
		return out
	case string:
		return n.text(v, key)
	}
	return v
}

// text returns a text of JSON, found under key, without names.
func (n *Namer) text(v, key string) string {
	keep := func(grammar func() *regexp.Regexp) string {
		if grammar().MatchString(v) {
			return v
		}
		return "REDACTED"
	}

	switch key {
	case "digest", "blobSum", "diff_ids":
		return keep(digestOnly)
	case "mediaType", "artifactType":
		return keep(mediaType)
	case "architecture", "os", "variant", "type":
		return keep(plainWord)
	case "code":
		return keep(codeGrammar)
	case "name", "repositories":
		return n.name("repo", v)
	case "tag", "tags":
		return n.tag(v)
	}
	return "REDACTED"
}
