package pushcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
)

// putManifests stores the manifests by digest, children before parents, and names the root
// last.
func (p *pusher) putManifests(ctx context.Context, g *tree, tags []string) error {
	// Manifests of one height do not need each other, so they go at the same time. An index
	// comes when all that it names is there.
	for height := 0; height <= g.root.height; height++ {
		level := slices.DeleteFunc(slices.Clone(g.nodes), func(n *node) bool {
			return n.height != height || n == g.root || p.present.has(n.desc.Digest)
		})
		err := p.parallel(ctx, len(level), func(ctx context.Context, i int) error {
			err := p.putManifest(ctx, level[i], level[i].desc.Digest.String(), nil)
			// A registry may not know a type that this program does not know either. The index
			// that names it may be taken all the same.
			if err != nil && level[i].foreign {
				p.notice(fmt.Sprintf("manifest %s of type %q was refused: %v", level[i].desc.Digest, level[i].desc.MediaType, err))
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}

	return p.putRoot(ctx, g.root, tags)
}

// putRoot stores the root under its tags. Several of them go in one request, which many
// registries do not know: tags that are not confirmed are set one by one.
func (p *pusher) putRoot(ctx context.Context, n *node, tags []string) error {
	byDigest := n.desc.Digest.String()
	switch {
	case len(tags) == 0 && p.present.has(n.desc.Digest):
		return nil
	case len(tags) == 0:
		return p.putManifest(ctx, n, byDigest, nil)
	case len(tags) > 1, n.desc.Digest.Algorithm() != digest.SHA256: // a tag alone would name its sha256 digest
		if err := p.putManifest(ctx, n, byDigest, tags); err != nil {
			return err
		}

		// The steps tell which tags were confirmed.
		p.mu.Lock()
		tags = slices.DeleteFunc(slices.Clone(tags), func(t string) bool {
			return slices.ContainsFunc(p.report.Steps, func(s Step) bool { return s.Action == "tag" && s.Tag == t })
		})
		p.mu.Unlock()
	}

	for _, tag := range tags {
		if err := p.putManifest(ctx, n, tag, nil); err != nil {
			return err
		}
	}

	return nil
}

// maxManifestTries is how often a manifest is sent to a registry that does not see its blobs.
const maxManifestTries = 4

// putManifest stores one manifest under a name. A registry that misses blobs gets those that
// are missing; one that only needs time gets that.
func (p *pusher) putManifest(ctx context.Context, n *node, name string, tags []string) error {
	data, err := p.src.Document(n.desc)
	if err != nil {
		return err
	}

	for try := 1; ; try++ {
		result, err := p.c.PutManifest(ctx, p.repo, name, n.desc.MediaType, data, tags...)
		if err == nil {
			return p.stored(ctx, n, name, result)
		}

		if status, ok := errors.AsType[*registry.StatusError](err); ok && ctx.Err() == nil {
			// A tag that may not change is not a failure if it names this manifest already.
			if p.sameTag(ctx, n, name, status) {
				return p.stored(ctx, n, name, registry.PutResult{Digest: n.desc.Digest})
			}
			if try < maxManifestTries && blames(status) {
				again, findErr := p.findMissing(ctx, n, status, try)
				if again && findErr == nil {
					continue
				}
				err = cmp.Or(findErr, err)
			}
		}
		return fmt.Errorf("push manifest %s: %w", n.desc.Digest, err)
	}
}

// blames reports whether a refusal may be about something that the manifest names.
func blames(e *registry.StatusError) bool {
	return e.Status == 400 && !e.TooLarge() && e.Has("MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN") ||
		e.Status == 404 && e.Has("MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN")
}

// findMissing asks for everything that n names, sends what is absent, and reports whether
// to try the manifest again. One that is called invalid with nothing absent is.
func (p *pusher) findMissing(ctx context.Context, n *node, status *registry.StatusError, try int) (bool, error) {
	// Blobs that the plan found in the registry may be gone since.
	var missing []string
	for _, b := range n.blobs {
		there, err := p.exists(ctx, b)
		if err != nil {
			return false, err
		}
		if there || oci.IsForeignLayer(b.MediaType) {
			continue
		}
		missing = append(missing, b.Digest.String())
		step, err := p.sendBlob(ctx, b)
		if err != nil {
			return false, fmt.Errorf("blob %s, which the registry lost: %w", b.Digest, err)
		}
		step.Reason = "the registry did not have it when the manifest came"
		p.replaceStep(step)
	}

	for _, child := range n.children {
		if _, err := p.c.HeadManifest(ctx, p.repo, child.desc.Digest.String()); errors.Is(err, registry.ErrNotFound) {
			missing = append(missing, child.desc.Digest.String())
			if err := p.putManifest(ctx, child, child.desc.Digest.String(), nil); err != nil {
				return false, err
			}
		}
	}

	if len(missing) > 0 {
		p.notice(fmt.Sprintf("the registry did not have %s; sent again", strings.Join(missing, ", ")))
		return true, nil
	}

	// Nothing is absent, so what makes the manifest invalid will not pass.
	if status.Has("MANIFEST_INVALID") && !status.Has("MANIFEST_BLOB_UNKNOWN") {
		return false, nil
	}

	// Storage that is only eventually consistent may show the blobs a little later.
	return true, p.o.Sleep(ctx, time.Duration(try*try)*300*time.Millisecond)
}

// sameTag reports whether a tag was refused because it may not change, and names what it
// should already.
func (p *pusher) sameTag(ctx context.Context, n *node, name string, status *registry.StatusError) bool {
	if status.Status != 400 && status.Status != 403 && status.Status != 409 && status.Status != 412 || name == n.desc.Digest.String() {
		return false
	}
	got, err := p.c.HeadManifest(ctx, p.repo, name)
	return err == nil && got.Digest == n.desc.Digest
}

// stored verifies what the registry said and takes care of the list of referrers.
func (p *pusher) stored(ctx context.Context, n *node, name string, result registry.PutResult) error {
	// Where the answer does not name the digest, the manifest is asked for by it. Of other
	// algorithms than sha256 the answer is not proof enough.
	d := n.desc.Digest
	if result.Digest.IsZero() || d.Algorithm() != digest.SHA256 {
		got, err := p.c.HeadManifest(ctx, p.repo, d.String())
		if err == nil && got.Digest != d {
			err = fmt.Errorf("the registry has %s: %w", got.Digest, digest.ErrMismatch)
		}
		if err != nil {
			return fmt.Errorf("push manifest %s: it was accepted, but is not there under its digest: %w", d, err)
		}
	}

	// An answer that names the subject, in OCI-Subject, says that the registry lists the
	// manifest itself (distribution-spec, "Pushing Manifests with Subject").
	if n.subject != nil {
		if result.Subject == n.subject.Digest {
			p.listed.add(d)
		}
		if err := p.list(ctx, n); err != nil {
			return err
		}
	}

	step := stepOf("manifest", n.desc)
	if !p.present.has(d) {
		p.present.add(d)
		p.step(step)
		p.progress(progress.Event{Kind: "manifest", Digest: d, Size: n.desc.Size})
	}

	tags := result.Tags
	if name != d.String() {
		tags = append(tags, name)
	}

	for _, tag := range tags {
		step.Action, step.Tag = "tag", tag
		p.step(step)
		p.progress(progress.Event{Kind: "tag", Digest: d, Text: tag})
	}

	return nil
}

// list takes care that a manifest can be found from its subject.
func (p *pusher) list(ctx context.Context, n *node) error {
	d := n.desc.Digest
	if p.listed.has(d) {
		return nil
	}
	added, err := p.c.AddReferrer(ctx, p.repo, n.subject.Digest, n.referrer)
	if err != nil {
		return fmt.Errorf("push manifest %s: list it as a referrer of %s: %w", d, n.subject.Digest, err)
	}
	if added && !p.origins.lists.Swap(true) { // told once, however many lists there are
		p.notice(fmt.Sprintf("the registry has no referrers API: %s is listed under the tag %s", d, graph.FallbackTag(n.subject.Digest)))
	}
	p.listed.add(d)
	return nil
}

// listPresent does that for manifests that were there already: a push that failed between a
// manifest and its list is repeated, and is done when both are true.
func (p *pusher) listPresent(ctx context.Context, g *tree) error {
	for _, n := range g.nodes {
		if n.subject != nil && p.present.has(n.desc.Digest) {
			if err := p.list(ctx, n); err != nil {
				return err
			}
		}
	}
	return nil
}
