package probe

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ocikit/oci"
	"ocikit/oci/registry"
)

func removeProbes() []probe {
	row := func(id, endpoint, asks string) Row { return Row{ID: id, Endpoint: endpoint, Asks: asks, Writes: true} }
	return []probe{
		{Row: row("delete-tag", "end-9", "DELETE of a tag, then HEAD"), needs: "manifest-tag", try: func(r *run) *result {
			return r.tryRemove(thing{"tag", r.tag}, "manifests/")
		}},
		{Row: row("delete-manifest", "end-9", "DELETE of a manifest, then HEAD"), needs: "manifest", try: func(r *run) *result {
			return r.tryRemove(thing{"manifest", r.doc.digest()}, "manifests/")
		}},
		{Row: row("delete-blob", "end-10", "DELETE of a blob, then HEAD"), needs: "put", try: func(r *run) *result {
			return r.tryRemove(r.spare(), "blobs/")
		}},
	}
}

// tryRemove deletes a thing and looks whether it is gone. A registry need not delete anything, but one
// that says it did must have.
func (r *run) tryRemove(t thing, path string) *result {
	a := r.remove(t)
	res := judge(a, Note, 202)
	if !a.done() {
		return res
	}
	after := r.get("HEAD", path+t.name, "Accept", oci.MediaTypeManifest)
	if after.is(404) {
		r.gone(t.kind, t.name)
	}
	return res.then(judge(after, Violation, 404))
}

// spare returns a blob that was made and that no manifest names, if there is one, else the first thing
// that was made.
func (r *run) spare() thing {
	i := slices.IndexFunc(r.made, func(t thing) bool {
		return t.kind == "blob" && t.name != r.blob.Digest.String() && t.name != r.config.Digest.String()
	})
	return r.made[max(i, 0)]
}

// A thing was made and is to be removed.
type thing struct {
	kind string // "tag", "manifest" or "blob"
	name string
}

func (r *run) keep(kind, name string) {
	if t := (thing{kind, name}); !slices.Contains(r.made, t) {
		r.made = append(r.made, t)
	}
}

func (r *run) gone(kind, name string) {
	r.made = slices.DeleteFunc(r.made, func(t thing) bool { return t == thing{kind, name} })
}

// cleanUp removes what is left of what was made, and notes the rest. After the end of ctx it has two
// seconds for that.
func (r *run) cleanUp() {
	if r.ctx.Err() != nil {
		ctx, stop := context.WithTimeout(context.WithoutCancel(r.ctx), 2*time.Second)
		defer stop()
		r.ctx = ctx
	}

	r.inARow = min(r.inARow, maxInARow-1) // it may be there again: one request finds out
	lost := 0
	for _, s := range r.sessions {
		if s.open && s.doubt && r.inARow < maxInARow {
			s.status() // where it is now
		}
		if s.open && (r.inARow >= maxInARow || !s.cancel().is(200, 202, 204, 404)) {
			lost++
		}
	}

	if lost > 0 {
		r.profile.Left = append(r.profile.Left, fmt.Sprintf("%d upload sessions", lost))
	}

	// Some registries refuse to delete a manifest that has a tag, or a blob that a manifest names.
	for _, kind := range []string{"tag", "manifest", "blob"} {
		r.removeAll(kind)
	}

	r.forgetTags()
	for _, t := range r.made {
		r.profile.Left = append(r.profile.Left, t.kind+" "+t.name)
	}
}

// forgetTags takes the tags off the list that went with their manifest, in a registry that cannot
// delete a tag alone.
func (r *run) forgetTags() {
	for _, t := range slices.Clone(r.made) {
		if t.kind == "tag" && r.inARow < maxInARow && r.get("HEAD", "manifests/"+t.name, "Accept", oci.MediaTypeManifest).is(404) {
			r.gone(t.kind, t.name)
		}
	}
}

// removeAll removes what is of one kind, until the registry says that it does not do that.
func (r *run) removeAll(kind string) {
	for _, t := range slices.Clone(r.made) {
		if t.kind != kind {
			continue
		}
		a := r.remove(t)
		if a.is(200, 202, 204, 404) {
			r.gone(t.kind, t.name)
		}
		if a.denied() || a.is(405, 501) || r.inARow >= maxInARow {
			return
		}
	}
}

// remove asks the registry to delete a thing.
func (r *run) remove(t thing) answer {
	call := registry.Call{Endpoint: "end-9", Method: "DELETE", Path: r.repo + "/manifests/" + t.name}
	if t.kind == "blob" {
		call.Endpoint, call.Path = "end-10", r.repo+"/blobs/"+t.name
	}
	call.Scopes = "repository:" + r.repo + ":delete,pull"
	return r.ask(call)
}
