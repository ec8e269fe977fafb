package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
)

// Progress is one step of a pull. All blobs of the image are in the plan, whether they are
// there or not.
type Progress = progress.Event

// A Step is one thing to do, or done.
type Step struct {
	// Action is "exists" (nothing to do), "fetch", "resume" (from Offset), "repair" (the
	// layout has it, damaged), "skip" (a layer that is not distributed), "manifest" or "tag".
	Action    string        `json:"action"`
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType,omitempty"`
	Size      int64         `json:"size"`
	Offset    int64         `json:"offset,omitempty"`   // bytes that were there
	Received  int64         `json:"received,omitempty"` // bytes that came
	Tag       string        `json:"tag,omitempty"`
	Reason    string        `json:"reason,omitempty"`
}

// A Report says what a pull did.
type Report struct {
	Reference     string         `json:"reference"`
	Descriptor    oci.Descriptor `json:"descriptor"`
	Steps         []Step         `json:"steps"`
	BytesReceived int64          `json:"bytesReceived"` // of blobs
	Requests      int64          `json:"requests"`
	Seconds       float64        `json:"seconds"`
}

// A puller fetches the blobs of one image.
type puller struct {
	*Image
	l *layout.Layout

	mu     sync.Mutex
	report Report
}

// Pull fetches what the layout lacks and names the image by entry, which must have its
// digest, when all is there: blobs first, then manifests, then names. An error leaves no name
// behind that was not there, and keeps what came of the blobs for the next pull. The Report
// counts also what was done before an error.
//
// Layers that are not distributed with their image are skipped, with a notice, if the registry
// does not have them. Addresses in "urls" are never asked.
func (im *Image) Pull(ctx context.Context, l *layout.Layout, entry oci.Descriptor) (Report, error) {
	if entry.Digest != im.Desc.Digest {
		return Report{}, fmt.Errorf("pull %s: the entry is for %s: %w", im.Desc.Digest, entry.Digest, digest.ErrMismatch)
	}
	p := &puller{Image: im, l: l}
	start := time.Now()
	before, _ := im.c.Stats()
	err := p.pull(ctx, entry)
	after, _ := im.c.Stats()
	p.report.Reference, p.report.Descriptor = im.ref.String(), im.Desc
	p.report.Requests, p.report.Seconds = after-before, time.Since(start).Seconds()
	return p.report, err
}

func (p *puller) pull(ctx context.Context, entry oci.Descriptor) error {
	var total int64
	for _, d := range p.blobs {
		total += d.Size
	}
	p.progress(Progress{Kind: "plan", Size: total, Count: len(p.blobs)})
	if err := p.fetchAll(ctx); err != nil {
		return err
	}
	err := p.store(p.l, func(s Step) {
		p.step(s)
		p.progress(Progress{Kind: "manifest", Digest: s.Digest, Size: s.Size})
	})
	if err != nil {
		return err
	}
	if err := p.l.AddEntries(ctx, append([]oci.Descriptor{entry}, p.referrers...)); err != nil {
		return err
	}
	tag := entry.Annotations[oci.AnnotationRefName]
	p.step(Step{Action: "tag", Digest: entry.Digest, MediaType: entry.MediaType, Size: entry.Size, Tag: tag})
	p.progress(Progress{Kind: "tag", Digest: entry.Digest, Text: tag})
	return nil
}

// Plan says what Pull would do. The layout may be nil: one that is not there yet.
func (im *Image) Plan(ctx context.Context, l *layout.Layout, entry oci.Descriptor) ([]Step, error) {
	var steps []Step
	for _, d := range im.blobs {
		s := Step{Action: "fetch", Digest: d.Digest, MediaType: d.MediaType, Size: d.Size}
		if l != nil {
			s.Action, s.Reason = im.local(l, d)
		}
		steps = append(steps, s)
	}
	for _, doc := range im.docs {
		if l != nil {
			if _, err := l.Document(doc.desc); err == nil {
				continue
			}
		}
		steps = append(steps, Step{Action: "manifest", Digest: doc.desc.Digest, MediaType: doc.desc.MediaType, Size: doc.desc.Size})
	}
	return append(steps, Step{Action: "tag", Digest: entry.Digest, MediaType: entry.MediaType, Size: entry.Size, Tag: entry.Annotations[oci.AnnotationRefName]}), ctx.Err()
}

// local reports what to do about a blob, by what the layout has of it: "exists", "repair" or
// "fetch". What it has is read to its end.
func (im *Image) local(l *layout.Layout, d oci.Descriptor) (action, reason string) {
	d.Data = nil
	r, err := l.Blob(d)
	if errors.Is(err, layout.ErrNotFound) {
		return "fetch", ""
	}
	if err == nil {
		_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, make([]byte, 256<<10))
		r.Close()
	}
	if err != nil {
		return "repair", err.Error()
	}
	return "exists", ""
}

// fetchAll gets all blobs, several at a time. The first error ends the others.
func (p *puller) fetchAll(ctx context.Context) error {
	size := func(i int) int64 { return p.blobs[i].Size }
	return registry.Parallel(ctx, p.o.Jobs, len(p.blobs), size, func(ctx context.Context, i int) error {
		return p.fetch(ctx, p.blobs[i])
	})
}

// fetch gets one blob, unless it is there and right.
func (p *puller) fetch(ctx context.Context, d oci.Descriptor) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s := Step{Digest: d.Digest, MediaType: d.MediaType, Size: d.Size}
	s.Action, s.Reason = p.local(p.l, d)
	if s.Action == "exists" {
		p.step(s)
		p.progress(Progress{Kind: "exists", Digest: d.Digest, Size: d.Size, Offset: d.Size})
		return nil
	}
	if d.Data != nil {
		if _, _, err := p.l.Put(bytes.NewReader(d.Data), d.Digest); err != nil {
			return fmt.Errorf("embedded data: %w", err)
		}
		p.step(s)
		p.progress(Progress{Kind: "done", Digest: d.Digest, Size: d.Size})
		return nil
	}
	err := p.receive(ctx, d, &s)
	if errors.Is(err, registry.ErrNotFound) && oci.IsForeignLayer(d.MediaType) {
		p.notice("skipped layer %s of type %q: the registry does not have it, and it is not distributed with its image", d.Digest, d.MediaType)
		s.Action = "skip"
		p.progress(Progress{Kind: "skip", Digest: d.Digest, Size: d.Size, Offset: d.Size})
		err = nil
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	p.step(s)
	return nil
}

// receive goes on with a blob where an earlier pull left off, or starts it.
func (p *puller) receive(ctx context.Context, d oci.Descriptor, s *Step) error {
	part, err := p.l.OpenPartial(ctx, d.Digest)
	if err != nil {
		return err
	}
	defer part.Close()
	// Whoever had the blob before may have brought it to its end.
	if s.Action == "fetch" {
		if action, _ := p.local(p.l, d); action == "exists" {
			s.Action = action
			p.progress(Progress{Kind: "exists", Digest: d.Digest, Size: d.Size, Offset: d.Size})
			return part.Discard()
		}
	}
	if part.Size() > d.Size || part.Size() == d.Size && part.Digest() != d.Digest {
		if err := part.Reset(); err != nil {
			return err
		}
	}
	resumed := part.Size() > 0
	if resumed {
		s.Offset = part.Size()
		if s.Action == "fetch" {
			s.Action = "resume"
		}
		p.progress(Progress{Kind: "resume", Digest: d.Digest, Size: d.Size, Offset: part.Size()})
	} else {
		p.progress(Progress{Kind: "start", Digest: d.Digest, Size: d.Size})
	}
	err = p.copy(ctx, d, part, s)
	if resumed && ctx.Err() == nil && isWrong(err) {
		// What was kept may have been what is wrong.
		p.progress(Progress{Kind: "again", Digest: d.Digest, Size: d.Size, Text: err.Error()})
		s.Reason = err.Error()
		if err := part.Reset(); err != nil {
			return err
		}
		err = p.copy(ctx, d, part, s)
	}
	if isWrong(err) {
		return errors.Join(err, part.Discard())
	}
	if err == nil {
		p.progress(Progress{Kind: "done", Digest: d.Digest, Size: d.Size})
	}
	return err
}

// isWrong reports whether an error says that bytes are wrong, and not that they did not come.
func isWrong(err error) bool {
	return errors.Is(err, digest.ErrMismatch) || errors.Is(err, registry.ErrProtocol)
}

// progressStep is how many bytes pass between two reports of progress.
const progressStep = 64 << 10

// copy receives the rest of a blob and makes it one.
func (p *puller) copy(ctx context.Context, d oci.Descriptor, part *layout.Partial, s *Step) error {
	if part.Size() == d.Size {
		return part.Commit()
	}
	r, err := p.c.ResumeBlob(ctx, p.ref.Repo, bare(d), part.Size())
	if err != nil {
		return err
	}
	defer r.Close()
	buf := make([]byte, 256<<10)
	reported := part.Size()
	for {
		n, err := r.Read(buf)
		if part.Size()+int64(n) > d.Size {
			return fmt.Errorf("got over %d bytes: %w", d.Size, digest.ErrMismatch)
		}
		if n > 0 {
			if _, err := part.Write(buf[:n]); err != nil {
				return err
			}
			s.Received += int64(n)
		}
		if part.Size()-reported >= progressStep || n > 0 && part.Size() == d.Size {
			reported = part.Size()
			p.progress(Progress{Kind: "bytes", Digest: d.Digest, Size: d.Size, Offset: reported})
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if part.Size() != d.Size {
		return fmt.Errorf("got %d bytes, want %d: %w", part.Size(), d.Size, digest.ErrMismatch)
	}
	return part.Commit()
}

func (p *puller) step(s Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.BytesReceived += s.Received
	p.report.Steps = append(p.report.Steps, s)
}

func (p *puller) progress(x Progress) {
	if p.o.Progress != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.o.Progress(x)
	}
}
