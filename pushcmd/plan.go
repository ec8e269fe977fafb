package pushcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
)

// plan asks the registry which manifests and blobs it has, and notes what to do with each blob.
func (p *pusher) plan(ctx context.Context, g *tree) error {
	// The root was asked for with its tags.
	children := slices.DeleteFunc(slices.Clone(g.nodes), func(n *node) bool { return n == g.root })
	err := p.parallel(ctx, len(children), func(ctx context.Context, i int) error {
		n := children[i]
		if _, err := p.c.HeadManifest(ctx, p.repo, n.desc.Digest.String()); err == nil {
			p.present.add(n.desc.Digest)
		} else if ctx.Err() != nil {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}

	needed := p.neededBlobs(g)
	steps := make([]Step, len(needed))
	err = p.parallel(ctx, len(needed), func(ctx context.Context, i int) error {
		s, err := p.planBlob(ctx, needed[i])
		steps[i] = s
		return err
	})
	if err != nil {
		return err
	}

	total := progress.Event{Kind: "plan"}
	for _, s := range steps {
		p.step(s)
		switch s.Action {
		case "exists":
			p.placed(s.Digest)
		case "skip":
			p.present.add(s.Digest)
		default:
			if p.o.DryRun {
				p.origins.add(s.Digest, p.repo) // it will be
			}
			total.Size += s.Size
			total.Count++
		}
	}

	p.report.BytesNeeded = total.Size
	p.progress(total)
	return nil
}

// neededBlobs returns the blobs of manifests that are not in the repository.
func (p *pusher) neededBlobs(g *tree) []oci.Descriptor {
	seen := map[digest.Digest]bool{}
	var list []oci.Descriptor
	g.visit(func(n *node) bool {
		if p.present.has(n.desc.Digest) && !p.o.Check {
			return false
		}
		for _, b := range n.blobs {
			if !seen[b.Digest] && !p.present.has(b.Digest) {
				seen[b.Digest] = true
				list = append(list, b)
			}
		}
		return true
	})

	return list
}

func (p *pusher) planBlob(ctx context.Context, desc oci.Descriptor) (Step, error) {
	s := stepOf("upload", desc)
	s.Mode = p.mode(desc)

	// A blob that cannot be read here is an error before the first byte is sent, not behind
	// gigabytes of others.
	f, err := p.open(desc)
	if err != nil {
		if oci.IsForeignLayer(desc.MediaType) {
			s.Action, s.Mode, s.Reason = "skip", "", "a layer of this type need not be distributed, and is not in the layout"
			return s, nil
		}
		return s, err
	}
	f.Close()

	// The blob is in another repository, so it is mounted without a question: a mount does no
	// harm where the blob is there already.
	if from := p.origins.of(desc.Digest); from != "" && from != p.repo && p.origins.trusts() {
		s.Action, s.From = "mount", from
		return s, nil
	}

	if p.asksByMount(desc) {
		return s, nil
	}

	there := false
	if !p.lacking[desc.Digest] {
		if there, err = p.exists(ctx, desc); err != nil {
			return s, err
		}
	}

	if there {
		s.Action, s.Mode = "exists", ""
		p.progress(progress.Event{Kind: "exists", Digest: desc.Digest, Size: desc.Size})
	} else if from := p.mountFrom(desc.Digest); len(from) > 0 {
		s.Action, s.From = "mount", from[0]
	}

	return s, nil
}

// exists asks for a blob. A refusal that will not pass counts as absent, and so does a blob of
// another size: the upload shows what the registry allows. Busy registries and missing
// credentials are errors.
func (p *pusher) exists(ctx context.Context, desc oci.Descriptor) (bool, error) {
	size, err := p.c.HeadBlob(ctx, p.repo, desc.Digest)
	var status *registry.StatusError
	switch {
	case err == nil && size >= 0 && size != desc.Size:
		p.notice(fmt.Sprintf("blob %s: the registry has it with %d bytes, want %d; sending it again", desc.Digest, size, desc.Size))
		return false, nil
	case err == nil:
		return true, nil
	case errors.Is(err, registry.ErrNotFound):
		return false, nil
	case errors.As(err, &status) && !status.Retryable() && status.Status != 401:
		return false, nil
	}
	return false, err
}

// planNames notes the manifests that are to be stored, and where the image goes.
func (p *pusher) planNames(g *tree, ref registry.Reference, tags []string) {
	for _, n := range g.nodes {
		if p.present.has(n.desc.Digest) {
			continue
		}
		s := stepOf("manifest", n.desc)
		if n == g.root && len(tags) == 0 {
			s.Reference = ref.String()
		}
		p.step(s)
	}

	for _, tag := range tags {
		ref.Tag, ref.Digest = tag, digest.Digest{}
		s := stepOf("tag", g.root.desc)
		s.Tag, s.Reference = tag, ref.String()
		p.step(s)
	}
}
