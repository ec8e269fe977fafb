package pushcmd

import (
	"context"
	"strings"

	"ocikit/oci"
	"ocikit/oci/registry"
)

// pushTagged pushes the entries of a layout that refer to what was pushed by their tags alone,
// as cosign names signatures: the fallback tag of a digest with a suffix. They keep their tags.
// Lists under the fallback tag itself are the registry's, or are made anew.
func (p *pusher) pushTagged(ctx context.Context, pushed map[string]bool, entries []oci.Descriptor) error {
	subjects := map[string]bool{}
	for _, e := range entries {
		if pushed[e.Digest.String()] {
			subjects[registry.FallbackTag(e.Digest)] = true
		}
	}
	for text := range pushed {
		alg, encoded, _ := strings.Cut(text, ":")
		subjects[alg+"-"+encoded[:min(len(encoded), 64)]] = true
	}
	for _, e := range entries {
		name := e.Annotations[oci.AnnotationRefName]
		tag := name[strings.LastIndexByte(name, ':')+1:]
		subject, _, suffixed := strings.Cut(tag, ".")
		if !suffixed || !subjects[subject] || registry.CheckTag(tag) != nil {
			continue
		}
		if got, err := p.c.HeadManifest(ctx, p.repo, tag); err == nil && got.Digest == e.Digest && !p.o.Force {
			continue
		}
		g, err := p.walk(e)
		if err == nil {
			err = p.plan(ctx, g)
		}
		if err == nil {
			err = p.sendBlobs(ctx, g)
		}
		if err == nil {
			err = p.putManifests(ctx, g, []string{tag})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
