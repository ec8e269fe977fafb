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

func stepOf(action string, desc oci.Descriptor) Step {
	return Step{Action: action, Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size}
}

// A Report says what a pull did.
type Report struct {
	Reference     string         `json:"reference"`
	Descriptor    oci.Descriptor `json:"descriptor,omitzero"`
	Steps         []Step         `json:"steps"`
	BytesReceived int64          `json:"bytesReceived"` // of blobs
	Requests      int64          `json:"requests"`
	Seconds       float64        `json:"seconds"`
	Error         string         `json:"error,omitempty"` // why it failed, of one image among many
}

// Verified remembers which blobs of a layout were read and found right, so that a pull of many images
// reads shared ones once. Its zero value remembers none. It is safe for concurrent use.
type Verified struct{ blobs sync.Map }

// has reports whether a blob was read and is still there.
func (v *Verified) has(l *layout.Layout, d oci.Descriptor) bool {
	if v == nil {
		return false
	}
	if _, ok := v.blobs.Load(d.Digest); !ok {
		return false
	}
	size, err := l.Stat(d.Digest)
	return err == nil && size == d.Size
}

func (v *Verified) add(d oci.Descriptor) {
	if v != nil {
		v.blobs.Store(d.Digest, true)
	}
}

// A puller fetches the blobs of one image.
type puller struct {
	*Image
	l *layout.Layout

	mu     sync.Mutex
	report Report
}

// Pull fetches the blobs that l lacks, then stores the manifests, then names the image with entry,
// which must have the digest of the image, else the error wraps [digest.ErrMismatch]. An error
// leaves the names of l as they were, and keeps the bytes that came for the next pull. The Report
// covers what was done before an error, too. Its Requests are those of the Client in this time, of
// other pulls as well.
//
// Layers that are not distributed with their image are skipped, with a notice, if the registry does
// not have them. Addresses in "urls" are never asked.
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

// pull does the work of Pull: blobs, manifests, names, in this order, so that nothing in the layout
// ever names what is not there.
func (p *puller) pull(ctx context.Context, entry oci.Descriptor) error {
	p.progress(progress.Event{Kind: "plan", Size: oci.TotalSize(p.blobs), Count: len(p.blobs)})
	if err := p.fetchAll(ctx); err != nil {
		return err
	}

	err := p.store(p.l, func(s Step) {
		p.step(s)
		p.progress(progress.Event{Kind: "manifest", Digest: s.Digest, Size: s.Size})
	})
	if err != nil {
		return err
	}

	entries := []oci.Descriptor{entry}
	for _, r := range p.referrers {
		entries = append(entries, r.Beside(entry))
	}

	name := p.l.AddEntries
	if p.o.Name != nil {
		name = p.o.Name
	}

	if err := name(ctx, entries, p.o.Rules); err != nil {
		return err
	}

	tag := entry.Annotations.Get(oci.AnnotationRefName)
	p.step(Step{Action: "tag", Digest: entry.Digest, MediaType: entry.MediaType, Size: entry.Size, Tag: tag})
	p.progress(progress.Event{Kind: "tag", Digest: entry.Digest, Text: tag})
	return nil
}

// Plan returns the steps that Pull would take, and changes nothing. It reads and verifies the blobs
// that l has; l is nil for a layout that does not exist yet.
func (im *Image) Plan(ctx context.Context, l *layout.Layout, entry oci.Descriptor) ([]Step, error) {
	var steps []Step
	for _, d := range im.blobs {
		s := stepOf("fetch", d)
		if l != nil {
			var err error
			if s.Action, s.Reason, err = im.local(ctx, l, d); err != nil {
				return nil, err
			}
		}
		steps = append(steps, s)
	}

	for _, doc := range im.docs {
		if l != nil {
			if _, err := l.Document(doc.desc); err == nil {
				continue
			}
		}
		steps = append(steps, stepOf("manifest", doc.desc))
	}

	return append(steps, Step{Action: "tag", Digest: entry.Digest, MediaType: entry.MediaType, Size: entry.Size, Tag: entry.Annotations.Get(oci.AnnotationRefName)}), context.Cause(ctx)
}

// local reports what to do about a blob, by what the layout has: "exists", "repair" or "fetch". A
// blob that is there is read to its end and verified, unless Verified has it. An error is the end of
// ctx.
func (im *Image) local(ctx context.Context, l *layout.Layout, d oci.Descriptor) (action, reason string, err error) {
	// Embedded data would be read in place of a blob that is not there.
	d.Data = nil
	if im.o.Verified.has(l, d) {
		return "exists", "", nil
	}

	r, err := l.Blob(d)
	if errors.Is(err, layout.ErrNotFound) {
		return "fetch", "", nil
	}

	if err == nil {
		defer r.Close()
	}

	// A blob may be large, so an interrupt is looked for after each piece.
	buf := make([]byte, 256<<10)
	for err == nil {
		if ctx.Err() != nil {
			return "", "", context.Cause(ctx)
		}
		_, err = r.Read(buf)
	}

	if err != io.EOF {
		return "repair", err.Error(), nil
	}

	im.o.Verified.add(d)
	return "exists", "", nil
}

// fetchAll gets all blobs, several at a time. The first error ends the others.
func (p *puller) fetchAll(ctx context.Context) error {
	size := func(i int) int64 { return p.blobs[i].Size }
	return registry.Parallel(ctx, len(p.blobs), registry.Slots{Jobs: p.o.Jobs, Size: size}, func(ctx context.Context, i int) error {
		return p.fetch(ctx, p.blobs[i])
	})
}

// fetch gets one blob, unless it is there and right.
func (p *puller) fetch(ctx context.Context, d oci.Descriptor) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	s := Step{Digest: d.Digest, MediaType: d.MediaType, Size: d.Size}
	var err error
	if s.Action, s.Reason, err = p.local(ctx, p.l, d); err != nil {
		return err
	}

	if s.Action == "exists" {
		p.step(s)
		p.progress(progress.Event{Kind: "exists", Digest: d.Digest, Size: d.Size, Offset: d.Size})
		return nil
	}

	// A blob that is embedded in the manifest need not be asked for; Put checks it.
	if d.Data != nil {
		if _, _, err := p.l.Put(bytes.NewReader(d.Data), d.Digest); err != nil {
			return fmt.Errorf("embedded data: %w", err)
		}
		p.step(s)
		p.progress(progress.Event{Kind: "done", Digest: d.Digest, Size: d.Size})
		return nil
	}

	// Foreign layers (image-spec, "Non-Distributable Layers") may be absent from every
	// registry.
	err = p.receive(ctx, d, &s)
	if errors.Is(err, registry.ErrNotFound) && oci.IsForeignLayer(d.MediaType) {
		p.notice("skipped layer %s of type %q: the registry does not have it, and it is not distributed with its image", d.Digest, d.MediaType)
		s.Action = "skip"
		p.progress(progress.Event{Kind: "skip", Digest: d.Digest, Size: d.Size, Offset: d.Size})
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

	// OpenPartial waits for another process that fetches the same blob. That may have finished it.
	if s.Action == "fetch" {
		action, _, err := p.local(ctx, p.l, d)
		if err != nil {
			return err
		}
		if action == "exists" {
			s.Action = action
			p.progress(progress.Event{Kind: "exists", Digest: d.Digest, Size: d.Size, Offset: d.Size})
			return part.Discard()
		}
	}

	// The bytes that were kept cannot be a beginning of this blob, or are all of it and wrong.
	if part.Size() > d.Size || part.Size() == d.Size && part.Digest() != d.Digest {
		if err := part.Reset(); err != nil {
			return err
		}
	}

	resumed := p.begin(d, s, part.Size())
	err = p.rest(ctx, d, s, part)
	if (resumed || errors.Is(err, errRanged)) && ctx.Err() == nil && IsWrong(err) {
		err = p.again(ctx, d, s, part, err)
	}

	// Wrong bytes must not be gone on with. After any other error they are kept.
	if IsWrong(err) {
		return errors.Join(err, part.Discard())
	}

	if err == nil {
		p.o.Verified.add(d)
		p.progress(progress.Event{Kind: "done", Digest: d.Digest, Size: d.Size})
	}

	return err
}

// again fetches a blob once more, from the start and over one connection: its wrong bytes may be those
// that were kept, or have come in ranges. If the bytes are wrong then, they are the registry's.
func (p *puller) again(ctx context.Context, d oci.Descriptor, s *Step, part *layout.Partial, wrong error) error {
	p.c.OneConnection()
	p.progress(progress.Event{Kind: "again", Digest: d.Digest, Size: d.Size, Text: wrong.Error()})
	s.Reason = wrong.Error()
	if err := part.Reset(); err != nil {
		return err
	}
	return p.rest(ctx, d, s, part)
}

// begin says that a blob is begun, of which size bytes are here, and reports whether it is resumed.
func (p *puller) begin(d oci.Descriptor, s *Step, size int64) bool {
	if size == 0 {
		p.progress(progress.Event{Kind: "start", Digest: d.Digest, Size: d.Size})
		return false
	}

	s.Offset = size
	if s.Action == "fetch" {
		s.Action = "resume"
	}
	p.progress(progress.Event{Kind: "resume", Digest: d.Digest, Size: d.Size, Offset: size})
	return true
}

// rest fetches the rest of a blob, once, and says how it goes.
func (p *puller) rest(ctx context.Context, d oci.Descriptor, s *Step, part *layout.Partial) error {
	reported := part.Size()
	n, err := Rest(ctx, p.c, p.ref.Repo, d, part, func(size int64) {
		if size-reported >= progressStep || size == d.Size {
			reported = size
			p.progress(progress.Event{Kind: "bytes", Digest: d.Digest, Size: d.Size, Offset: reported})
		}
	})
	s.Received += n
	return err
}

// IsWrong reports whether err means that the bytes that came are wrong, rather than that they did not
// come. Going on behind wrong bytes is of no use.
func IsWrong(err error) bool {
	return errors.Is(err, digest.ErrMismatch) || errors.Is(err, registry.ErrProtocol)
}

// progressStep is how many bytes pass between two reports of progress.
const progressStep = 64 << 10

// Rest receives the bytes that part lacks of the blob d, whose size must be known, and commits part:
// the blob is verified and durable when Rest returns nil. It calls moved after each piece with the
// number of bytes that part has then. received counts the bytes that came. They stay in part after
// an error, also if they are wrong, see [IsWrong].
func Rest(ctx context.Context, c *registry.Client, repo string, d oci.Descriptor, part *layout.Partial, moved func(size int64)) (received int64, err error) {
	if part.Size() == d.Size {
		return 0, part.Commit()
	}

	r, err := c.ResumeBlob(ctx, repo, d.Bare(), part.Size())
	if err != nil {
		return 0, err
	}
	defer r.Close()

	for buf := make([]byte, 256<<10); ; {
		n, err := r.Read(buf)
		if part.Size()+int64(n) > d.Size {
			return received, fmt.Errorf("got over %d bytes: %w", d.Size, digest.ErrMismatch)
		}
		if n > 0 {
			if _, err := part.Write(buf[:n]); err != nil {
				return received, err
			}
			received += int64(n)
			moved(part.Size())
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return received, err
		}
	}

	if part.Size() != d.Size {
		return received, fmt.Errorf("got %d bytes, want %d: %w", part.Size(), d.Size, digest.ErrMismatch)
	}

	// A mismatch after ranges is marked: the caller may try once more without them.
	err = part.Commit()
	if ranged, ok := r.(interface{ Ranged() bool }); ok && ranged.Ranged() && IsWrong(err) {
		err = fmt.Errorf("%w: %w", errRanged, err)
	}

	return received, err
}

// errRanged marks an error about bytes that came over several connections.
var errRanged = errors.New("fetched in ranges")

func (p *puller) step(s Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.BytesReceived += s.Received
	p.report.Steps = append(p.report.Steps, s)
}

// progress reports an event. The lock keeps calls of Options.Progress from overlapping.
func (p *puller) progress(x progress.Event) {
	if p.o.Progress != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.o.Progress(x)
	}
}
