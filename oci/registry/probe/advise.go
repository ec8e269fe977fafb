package probe

import (
	"cmp"
	"slices"
)

// advise adds to the profile what ocikit push will do, as far as the probes that decide it were tried.
func (r *run) advise() {
	if r.denied != "" {
		r.advice("cannot work: " + r.denied)
	}

	if r.profile.ReadOnly {
		return
	}

	if r.tried("put", "put-stream") {
		r.advice(r.modeAdvice())
	}

	if r.tried("chunk", "put-tail") {
		r.advice(r.chunkAdvice())
	}

	if r.tried("cut") {
		r.advice(map[string]string{
			"exact": "a broken upload goes on at the byte where it broke",
			"part":  "a broken upload goes on before the byte where it broke",
		}[r.facts.resume], "a broken upload starts over")
	}

	switch {
	case r.works["mount"]:
		r.advice("--mount-from saves uploads")
	case r.tried("mount"):
		r.advice("--mount-from is of no use")
	}

	if r.tried("tags-at-once") && !r.works["tags-at-once"] {
		r.advice("several tags take a request each")
	}

	if r.tried("referrers") && !r.works["referrers"] {
		r.advice("--referrers keeps the list of referrers under a tag")
	}
}

// advice adds the first text that is not empty.
func (r *run) advice(texts ...string) {
	r.profile.Push = append(r.profile.Push, cmp.Or(texts...))
}

// tried reports whether all of the probes were among those that were chosen.
func (r *run) tried(ids ...string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { _, ok := r.works[id]; return !ok })
}

// modeAdvice says which --mode sends a blob that needs no chunks.
func (r *run) modeAdvice() string {
	switch put, stream := r.works["put"], r.works["put-stream"]; {
	case put && stream:
		return "--mode auto sends blobs up to 4 MiB with PUT, larger ones with one PATCH"
	case put:
		return "--mode put is what works"
	case stream:
		return "--mode stream is what works"
	}
	return "no way to send a blob was found"
}

// chunkAdvice says whether chunks work, and how large they may be.
func (r *run) chunkAdvice() string {
	if !r.works["chunk"] || !r.works["put-tail"] && !r.works["put-chunks"] {
		return "--mode chunk does not work"
	}

	text := "--mode chunk works"
	if r.facts.chunkMin != "" {
		text += ", with chunks of at least " + plain(r.facts.chunkMin) + " bytes"
	}

	if r.facts.chunkMax != "" {
		text += ", with chunks of at most " + plain(r.facts.chunkMax) + " bytes"
	}

	switch {
	case r.facts.bodyLimit > 0:
		text += ", with --chunk-size " + sizeText(r.facts.bodyLimit) + " or less"
	case r.tried("chunk-large") && !r.works["chunk-large"]:
		text += ", with --chunk-size 4MiB or less"
	}

	return text
}
