package pushcmd

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry"
	"ocikit/oci/source"
)

// An Image is one of many to push, and where it goes.
type Image struct {
	Name      string // for messages
	Source    source.Source
	Desc      oci.Descriptor
	To        registry.Reference
	MountFrom []string // repositories of the registry that may have its blobs
	Err       error    // why it cannot go anywhere

	from string // the repository in its full name, "" if it has none
}

// PushAll pushes images one after the other, each as [Push] does, and remembers from one to the
// next what the registry has. It returns a report for each image that it came to.
//
// An image that cannot be pushed does not end the work, unless Options.FailFast says so or the
// last few all failed for a reason that is about none of them, such as a registry that is down.
// Its report holds its error, and all errors together are a [source.Failures]. When ctx is done
// PushAll ends at once.
func PushAll(ctx context.Context, c *registry.Client, images []Image, o Options) ([]Report, error) {
	var (
		reports []Report
		failed  = source.Failures{Total: len(images), Fast: o.FailFast, Began: time.Now()}
		pushers = map[string]*pusher{}
		origins = newOrigins()
	)
	for i, im := range images {
		report, err := Report{Reference: im.To.String(), Descriptor: im.Desc}, im.Err
		if err == nil {
			// There is one pusher for each repository, so that what an image brought is not
			// asked for again with the next. All of them share the origins, which tell where a
			// blob can be mounted from.
			p := pushers[im.To.Repo]
			if p == nil {
				p = newPusher(c, im.Source, im.To.Repo, o)
				p.origins, p.many = origins, true
				pushers[im.To.Repo] = p
			}
			p.src, p.from, p.o.MountFrom = im.Source, im.from, slices.Concat(o.MountFrom, im.MountFrom)
			report, err = p.push(ctx, im.Desc, im.To)
		}

		// An interrupt is not a fault of this image: the list ends, and no failure is counted.
		if ctx.Err() != nil {
			return append(reports, report), fmt.Errorf("push %s: %w", im.To, cmp.Or(err, context.Cause(ctx)))
		}

		failed.Add(im.Name, err)
		if err != nil {
			report.Reference, report.Error = im.To.String(), c.Redact(err.Error())
		}

		if im.Err != nil {
			report.Reference = im.Name // it goes nowhere
		}

		reports = append(reports, report)

		// Off a terminal no progress is shown, so a line now and then says how far the push is.
		if o.Progress == nil && o.Notice != nil {
			if text := failed.SoFar(time.Now(), i+1); text != "" {
				o.Notice(text)
			}
		}

		if failed.Hopeless() {
			return reports, fmt.Errorf("given up behind image %d: %w", i+1, failed.Err())
		}
	}

	return reports, failed.Err()
}

// origins remembers in which repository of a registry a blob is, so that it can be mounted into
// others: one request a blob, however many repositories there are.
type origins struct {
	mu      sync.Mutex
	repos   map[digest.Digest]string
	mounts  mounting
	guessed int64       // bytes of blobs that are sent unless a mount finds them, while it is not known to
	lists   atomic.Bool // the user was told that the registry has no referrers API
	there   atomic.Bool // the last image was there already
}

// A mounting says what is known of a registry's mounts.
type mounting int

const (
	untried mounting = iota
	trusted          // the last one did what its answer said
	refused          // the last one did not, or its answer was not true
)

// maxGuessed bounds the bytes that are sent in vain if the registry has the blobs but does not
// mount.
const maxGuessed = 64 << 20

func newOrigins() *origins { return &origins{repos: map[digest.Digest]string{}} }

// trusts reports whether the answer to a mount may be believed without another question.
func (o *origins) trusts() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mounts == trusted
}

// setMounts notes whether a mount did what it was asked for.
func (o *origins) setMounts(did bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mounts = refused
	if did {
		o.mounts = trusted
	}
}

// asksByMount reports whether to ask for a blob by a mount from the repository that it goes to. If
// the blob is absent, the registry answers with the session that the upload needs anyway, which saves
// a request. A registry that does not mount gives that answer for a blob that it has, too. So until
// one has mounted only small blobs are asked for in this way, and not too many.
func (o *origins) asksByMount(desc oci.Descriptor) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.repos[desc.Digest]; known || o.mounts == refused {
		return false
	}
	if o.mounts == untried {
		if desc.Size > smallBlob || o.guessed+desc.Size > maxGuessed {
			return false
		}
		o.guessed += desc.Size
	}
	return true
}

func (o *origins) add(d digest.Digest, repo string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.repos[d]; !known {
		o.repos[d] = repo
	}
}

func (o *origins) of(d digest.Digest) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.repos[d]
}

// pushReferrers pushes what refers to the manifests of an image, and what refers to that. A
// referrer that is found by its tag alone, as cosign names signatures, keeps that tag. A list
// under a fallback tag is not pushed: the registry has its own, or [pusher.list] makes one.
func (p *pusher) pushReferrers(ctx context.Context, g *tree) error {
	if !p.o.Referrers || p.o.DryRun {
		return nil
	}

	found, err := source.Referrers(p.src, []oci.Descriptor{g.root.desc})
	if err != nil {
		return err
	}

	for _, r := range found {
		if r.List || p.isElsewhere(r.Desc) {
			continue
		}
		if err := p.pushReferrer(ctx, r); err != nil {
			return err
		}
	}

	return nil
}

// isElsewhere reports whether a referrer is known by a tag of another repository than that of the
// image: two repositories may have one image, each with its own signatures.
func (p *pusher) isElsewhere(desc oci.Descriptor) bool {
	name, ok := oci.NameOfEntry(desc)
	return ok && p.from != "" && name.Repo != p.from
}

// pushReferrer pushes one manifest that refers to another, unless it is there.
func (p *pusher) pushReferrer(ctx context.Context, r graph.Referrer) error {
	name, tags := r.Desc.Digest.String(), []string(nil)
	if tag := tagOf(r.Desc); tag != "" {
		name, tags = tag, []string{tag}
	}

	g, err := p.walk(r.Desc)
	if err != nil {
		return err
	}

	// A referrer that is there still needs its place in the list. With Options.Check its blobs
	// are asked for too; its tag is right already.
	if got, err := p.c.HeadManifest(ctx, p.repo, name); err == nil && got.Digest == r.Desc.Digest {
		p.present.add(r.Desc.Digest)
		if !p.o.Check {
			return p.listPresent(ctx, g)
		}
		tags = nil
	}

	if err := p.plan(ctx, g); err != nil {
		return err
	}

	return p.deliver(ctx, g, tags)
}

// tagOf returns the tag behind the name of an entry, if a registry takes it.
func tagOf(desc oci.Descriptor) string {
	name := desc.Annotations.Get(oci.AnnotationRefName)
	tag := name[strings.LastIndexByte(name, ':')+1:]
	if registry.CheckTag(tag) != nil {
		return ""
	}
	return tag
}
